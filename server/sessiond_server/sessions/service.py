"""The life of a session: create, read, list, update, resume, destroy, delete."""

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import UUID

from sessiond_server.core import events, pagination
from sessiond_server.core.errors import Fault, invalid, session_not_found
from sessiond_server.core.events import EventPublisher
from sessiond_server.core.ids import creation_key, session_key, uuid7
from sessiond_server.core.limits import (
    MAX_IDLE_TTL_MS,
    MAX_JSON_BYTES,
    MAX_NAME_CHARACTERS,
    MAX_TITLE_CHARACTERS,
    MIN_IDLE_TTL_MS,
    Limits,
)
from sessiond_server.core.pagination import Page, Paging
from sessiond_server.core.states import SessionState
from sessiond_server.core.validation import check_request_id, check_session_id, check_text
from sessiond_server.db.idempotency import NO_LOG, DuplicateRequest, RequestRecord, content_hash
from sessiond_server.sessions.lifecycle_events import lifecycle_event
from sessiond_server.sessions.store.sessions import (
    Listing,
    NewSession,
    SessionFilter,
    SessionRow,
    SessionStore,
    TooLarge,
    sort_key,
)

NEVER = -1
"""An idle_ttl_ms that says: never expires, whatever the server's default is."""

# A session that others delete and make anew between two of our statements is tried again so many times.
ATTEMPTS = 5

DELETED_A_BATCH = 500

# The columns that an update may set, and the most characters of those that are texts.
_TEXTS = {
    "model": MAX_NAME_CHARACTERS,
    "user_name": MAX_NAME_CHARACTERS,
    "title": MAX_TITLE_CHARACTERS,
}


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What a caller may choose about a session. idle_ttl_ms: None = the server's default, NEVER = never."""

    model: str = ""
    user_name: str = ""
    title: str = ""
    config: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    idle_ttl_ms: int | None = None


class Sessions:
    """The rules of the lifecycle. Ids are the caller's; project_id is who calls.

    Args:
        publisher: is told of each change.
        end_turns: ends the turns of a session that was destroyed.
    """

    def __init__(
        self,
        store: SessionStore,
        limits: Limits,
        publisher: EventPublisher,
        end_turns: Callable[[UUID, str], Awaitable[None]],
    ) -> None:
        self._store = store
        self._limits = limits
        self._publisher = publisher
        self._end_turns = end_turns

    async def create(
        self,
        project_id: UUID,
        session_id: str,
        settings: SessionSettings,
        *,
        get_or_create: bool,
        request_id: str,
    ) -> SessionRow:
        """A new session, or with get_or_create the one that is there.

        Raises: Fault SESSION_ALREADY_EXISTS, INVALID_FIELD, REQUEST_ID_REUSED.
        """
        made_here = not session_id
        session_id = check_session_id(session_id or str(uuid7()), "session.session_id")
        check_request_id(request_id)
        new = new_session(project_id, session_id, settings, self._limits)
        record = None
        if request_id:
            content = content_hash(
                "create", "" if made_here else session_id, get_or_create, *_values(settings)
            )
            record = RequestRecord(
                creation_key(project_id, request_id), request_id, content, session_id
            )
        for _ in range(ATTEMPTS):
            try:
                created = await self._store.create(new, record)
            except DuplicateRequest as duplicate:
                return await session_from_first_request(self._store, project_id, record, duplicate)
            if created:
                self._publisher.publish(lifecycle_event(events.CREATED, created))
                return created
            if not get_or_create:
                raise Fault(
                    "SESSION_ALREADY_EXISTS",
                    f"there is a session {session_id!r} already; to use it, set get_or_create or resume it",
                    metadata={"session_id": session_id},
                )
            if found := await self._store.get(new.key, project_id):
                return found
            # Deleted between the two statements: make it anew.
        raise conflicting_recreation(session_id)

    async def get(self, project_id: UUID, session_id: str) -> SessionRow:
        """Raises: Fault SESSION_NOT_FOUND."""
        check_session_id(session_id)
        row = await self._store.get(session_key(project_id, session_id), project_id)
        if row is None:
            raise session_not_found(session_id)
        return row

    async def list(self, listing: Listing, page_size: int, page_token: str) -> Page[SessionRow]:
        """A page. listing.limit and listing.after are set here.

        Raises: Fault INVALID_FIELD, INVALID_PAGE_TOKEN.
        """
        paging = Paging(page_size, page_token, ("sessions", listing), *_POSITIONS[listing.order])
        _check_filter(listing.filter)
        # One row more than asked for says whether there is a next page.
        rows = await self._store.list(replace(listing, limit=paging.size + 1, after=paging.after))
        return paging.page(rows, partial(sort_key, listing.order))

    async def delete_many(
        self, chosen: SessionFilter, *, everything: bool, dry_run: bool
    ) -> tuple[int, int]:
        """Remove, batch by batch, or only count, the sessions that meet a filter. Answers how many, and their messages.

        Raises: Fault INVALID_FIELD.
        """
        _check_filter(chosen)
        is_empty = chosen == SessionFilter(chosen.project_id)
        if is_empty != everything:
            raise invalid(
                "all",
                "is required where no filter is set: it means every session of the project"
                if is_empty
                else "cannot go together with a filter",
            )
        # What is created from now on is not touched, or a busy project would never be done.
        before = await self._store.now()
        if dry_run:
            return await self._store.count(chosen, before)
        sessions = messages = 0
        while True:
            gone = await self._store.delete_some(chosen, before, DELETED_A_BATCH)
            sessions, messages = (
                sessions + len(gone),
                messages + sum(session.last_seq for session in gone),
            )
            for session in gone:
                self._publisher.publish(lifecycle_event(events.DELETED, session))
            if len(gone) < DELETED_A_BATCH:
                return sessions, messages

    async def update(
        self,
        project_id: UUID,
        session_id: str,
        values: dict[str, Any],
        patches: dict[str, dict[str, Any]],
        *,
        etag: str,
        request_id: str,
    ) -> SessionRow:
        """Set columns (names of SessionSettings) and merge patches into config and metadata.

        Raises: Fault SESSION_NOT_FOUND, ETAG_MISMATCH, INVALID_FIELD, REQUEST_ID_REUSED.
        """
        check_session_id(session_id, "session.session_id")
        check_request_id(request_id)
        for name in values.keys() & _TEXTS.keys():
            check_text(f"session.{_field(name)}", values[name], _TEXTS[name])
        if "idle_ttl_ms" in values:
            ttl = values["idle_ttl_ms"]
            ttl = self._limits.default_idle_ttl_ms if ttl is None else ttl
            values = values | {
                "idle_ttl_ms": None if ttl == NEVER else checked_ttl(ttl, "session.idle_ttl")
            }
        for name in patches:
            if name in values:
                raise invalid(f"{name}_patch", f"cannot go together with a new {name}")
        if not values and not patches:
            raise invalid("update_mask", "names no field, and there is no patch: nothing to update")
        key = session_key(project_id, session_id)
        record = None
        if request_id:
            content = content_hash("update", sorted(values.items()), sorted(patches.items()), etag)
            record = RequestRecord(key, request_id, content)
        expected = _decode_etag(etag) if etag else None
        for _ in range(ATTEMPTS):
            try:
                row = await self._store.update(
                    key, project_id, values, patches, expected, MAX_JSON_BYTES, record
                )
            except DuplicateRequest:
                row = None
            except TooLarge as e:
                column, size = e.args
                raise invalid(
                    f"{column}_patch" if column in patches else f"session.{column}",
                    f"would make {column} {size} bytes; at most {MAX_JSON_BYTES} are allowed",
                ) from None
            if row:
                self._publisher.publish(lifecycle_event(events.UPDATED, row))
                return row
            current = await self.get(project_id, session_id)
            # Before the etag: of two equal requests the first one changed it, which is not somebody else.
            if record and await self._is_repeated(record):
                return current
            if etag:
                raise self._etag_mismatch(current)
        raise conflicting_recreation(session_id)

    async def set_state(
        self, project_id: UUID, session_id: str, state: SessionState, request_id: str
    ) -> SessionRow:
        """Destroy or resume. Raises: Fault SESSION_NOT_FOUND."""
        check_session_id(session_id)
        check_request_id(request_id)
        row = await self._store.set_state(session_key(project_id, session_id), project_id, state)
        if row is None:
            raise session_not_found(session_id)
        self._publisher.publish(
            lifecycle_event(
                events.RESUMED if state == SessionState.ACTIVE else events.DESTROYED, row
            )
        )
        if state == SessionState.DESTROYED:
            await self._end_turns(project_id, session_id)
        return row

    async def delete(
        self, project_id: UUID, session_id: str, *, allow_missing: bool, etag: str, request_id: str
    ) -> None:
        """Gone when this returns. Raises: Fault SESSION_NOT_FOUND, ETAG_MISMATCH, REQUEST_ID_REUSED."""
        check_session_id(session_id)
        check_request_id(request_id)
        key = session_key(project_id, session_id)
        record = (
            RequestRecord(key, request_id, content_hash("delete", allow_missing, etag))
            if request_id
            else None
        )
        for _ in range(ATTEMPTS):
            try:
                if gone := await self._store.delete(
                    key, project_id, _decode_etag(etag) if etag else None, record
                ):
                    self._publisher.publish(lifecycle_event(events.DELETED, gone))
                    return
            except DuplicateRequest:
                # There is a session again, made after the first one went; a repetition does not touch it.
                pass
            if record and await self._is_repeated(record):
                return
            current = await self._store.get(key, project_id)
            if current is None:
                if allow_missing:
                    return
                raise session_not_found(session_id)
            if etag:
                raise self._etag_mismatch(current)
        raise conflicting_recreation(session_id)

    async def _is_repeated(self, record: RequestRecord) -> bool:
        """Whether the request was done before. Raises: Fault REQUEST_ID_REUSED."""
        first = await self._store.find_request(record.key, NO_LOG, record.request_id)
        if first is None:
            return False
        record.check_repeats(first)
        return True

    @staticmethod
    def _etag_mismatch(row: SessionRow) -> Fault:
        current = etag_of(row)
        return Fault(
            "ETAG_MISMATCH",
            f"session {row.session_id!r} was changed by somebody else; read it again, then decide",
            metadata={"session_id": row.session_id, "etag": current},
            fields={"etag": f"is not the current one, {current}"},
        )


def new_session(
    project_id: UUID, session_id: str, settings: SessionSettings, limits: Limits
) -> NewSession:
    """A session to make. Raises: Fault INVALID_FIELD."""
    for name, most in _TEXTS.items():
        check_text(f"session.{_field(name)}", getattr(settings, name), most)
    idle_ttl_ms = (
        limits.default_idle_ttl_ms if settings.idle_ttl_ms is None else settings.idle_ttl_ms
    )
    return NewSession(
        key=session_key(project_id, session_id),
        project_id=project_id,
        session_id=session_id,
        log=uuid.uuid4(),
        model=settings.model,
        user_name=settings.user_name,
        title=settings.title,
        config=settings.config or {},
        metadata=settings.metadata or {},
        idle_ttl_ms=None if idle_ttl_ms == NEVER else checked_ttl(idle_ttl_ms, "session.idle_ttl"),
    )


async def session_from_first_request(
    store: SessionStore,
    project_id: UUID,
    record: RequestRecord | None,
    duplicate: DuplicateRequest,
) -> SessionRow:
    """Returns the session that the first request of this id made: by creation, copy or import.

    Raises:
        Fault: REQUEST_ID_REUSED; SESSION_NOT_FOUND if it is gone by now.
    """
    assert record is not None  # noqa: S101 - only a record can be a duplicate
    first = duplicate.first or await store.find_request(record.key, NO_LOG, record.request_id)
    record.check_repeats(first)
    session_id = first.result if first else ""
    row = await store.get(session_key(project_id, session_id), project_id)
    if row is None:
        raise session_not_found(session_id)
    return row


def _check_filter(chosen: SessionFilter) -> None:
    texts = {
        "session_id_prefix": chosen.session_id_prefix,
        "user": chosen.user_name,
        "model": chosen.model,
    }
    for field, text in texts.items():
        check_text(f"filter.{field}", text, MAX_NAME_CHARACTERS)


def etag_of(row: SessionRow) -> str:
    """Of the log as well as the revision: a re-created session has other etags."""
    return f"{row.log.hex}-{row.revision}"


def expires_at_ms(row: SessionRow) -> int | None:
    """When it expires if it is not used before: milliseconds since 1970 UTC."""
    return (
        None if row.idle_ttl_ms is None else int(row.used_at.timestamp() * 1000) + row.idle_ttl_ms
    )


def conflicting_recreation(session_id: str) -> Fault:
    return Fault(
        "OVERLOADED",
        f"session {session_id!r} is deleted and made anew by others all the time",
        retry_after_s=0.5,
    )


def _decode_etag(etag: str) -> tuple[UUID, int]:
    log, _, revision = etag.partition("-")
    try:
        if not revision.isdecimal():
            raise ValueError(revision)
        # Beyond what the column holds, it cannot be anybody's.
        return UUID(hex=log), int(revision) if len(revision) < 10 else 2**31 - 1
    except ValueError:
        raise invalid("etag", "is not an etag of this server") from None


_POSITIONS: dict[str, tuple[Any, ...]] = {
    "active_desc": (pagination.int4, pagination.time, UUID),
    "created_desc": (pagination.time, UUID),
    "created_asc": (pagination.time, UUID),
    "id_asc": (pagination.text,),
}


def checked_ttl(idle_ttl_ms: int | None, field: str) -> int | None:
    if idle_ttl_ms is not None and not MIN_IDLE_TTL_MS <= idle_ttl_ms <= MAX_IDLE_TTL_MS:
        raise invalid(field, f"is {idle_ttl_ms} ms; from 1 second to 10 years are allowed")
    return idle_ttl_ms


def _field(column: str) -> str:
    return "user" if column == "user_name" else column


def _values(settings: SessionSettings) -> list[Any]:
    return [
        settings.model,
        settings.user_name,
        settings.title,
        settings.config,
        settings.metadata,
        settings.idle_ttl_ms,
    ]
