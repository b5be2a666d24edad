"""The lifecycle of sessions: create, read, list, update, resume, destroy, delete."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from itertools import accumulate
from operator import attrgetter
from typing import Any
from uuid import UUID

from sessiond_server.core import events, pagination
from sessiond_server.core.errors import Fault, etag_mismatch, invalid, session_not_found
from sessiond_server.core.events import EventPublisher
from sessiond_server.core.ids import creation_key, session_key, uuid7
from sessiond_server.core.limits import (
    MAX_JSON_BYTES,
    MAX_PAGE_BYTES,
    Limits,
)
from sessiond_server.core.pagination import Page, Paging
from sessiond_server.core.states import SessionStatus
from sessiond_server.core.validation import check_request_id, check_session_id
from sessiond_server.db.idempotency import NO_LOG, DuplicateRequest, RequestRecord, content_hash
from sessiond_server.quotas.service import Quotas
from sessiond_server.sessions.lifecycle_events import lifecycle_event
from sessiond_server.sessions.settings import (
    SessionSettings,
    check_filter,
    check_texts,
    new_session,
    stored_ttl,
)
from sessiond_server.sessions.state import state_changed, too_large
from sessiond_server.sessions.store.listing import Listing
from sessiond_server.sessions.store.sessions import (
    Etag,
    SessionRow,
    SessionStore,
    TooLarge,
)
from sessiond_server.sessions.store.state import StateChange, StateChanged, StateTooLarge

# A session may be deleted and re-created between two statements. The change is then retried.
ATTEMPTS = 5

_POSITIONS: dict[str, tuple[pagination.Parser, ...]] = {
    "active_desc": (pagination.int4, pagination.time_or_none, UUID),
    "active_asc": (pagination.int4, pagination.time_or_none, UUID),
    "created_desc": (pagination.time, UUID),
    "created_asc": (pagination.time, UUID),
    "id_asc": (pagination.text,),
}


class Sessions:
    """The rules of sessions. Every method takes the caller's project."""

    def __init__(
        self,
        store: SessionStore,
        limits: Limits,
        publisher: EventPublisher,
        end_turns: Callable[[UUID, str], Awaitable[None]],
        quotas: Quotas,
    ) -> None:
        """Create the service.

        Args:
            store: store of the sessions.
            limits: the operator's limits.
            publisher: publishes lifecycle events.
            end_turns: ends the turns of a session, given its project and session_id, unless the
                session is active.
            quotas: the limits of projects.
        """
        self._quotas = quotas
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
        """Create a session; with get_or_create, return the existing one if there is one.

        Raises:
            Fault: SESSION_ALREADY_EXISTS; INVALID_FIELD; REQUEST_ID_REUSED.
        """
        id_is_chosen = bool(session_id)
        session_id = check_session_id(session_id or str(uuid7()), "session.session_id")
        check_request_id(request_id)
        new = new_session(project_id, session_id, settings, self._limits)
        record = None
        if request_id:
            chosen_id = session_id if id_is_chosen else ""
            content = content_hash("create", chosen_id, get_or_create, *settings.content)
            key = creation_key(project_id, request_id)
            record = RequestRecord(key, request_id, content, session_id)

        async def exists() -> bool:
            found = await self._store.get(new.key, project_id)
            return found is not None or await self._store.is_recorded(record)

        for _ in range(ATTEMPTS):
            room = await self._quotas.reserve(project_id, unless=exists, max_sessions=1)
            try:
                async with room:
                    created = await self._store.create(new, record)
                    if not created:
                        room.give_back()
            except StateTooLarge as e:
                raise too_large(e) from None
            except DuplicateRequest as duplicate:
                return await session_from_first_request(self._store, project_id, record, duplicate)
            if created:
                self._publisher.publish(lifecycle_event(events.CREATED, created))
                return created
            if not get_or_create:
                raise Fault(
                    "SESSION_ALREADY_EXISTS",
                    f"session {session_id!r} already exists; to use it, set get_or_create or "
                    "resume it",
                    metadata={"session_id": session_id},
                )
            if found := await self._store.get(new.key, project_id):
                return found
            # The session was deleted between the two statements: try to create it again.
        raise conflicting_recreation(session_id)

    async def get(self, project_id: UUID, session_id: str) -> SessionRow:
        """Return a session.

        Raises:
            Fault: SESSION_NOT_FOUND; INVALID_FIELD for a malformed session_id.
        """
        check_session_id(session_id)
        row = await self._store.get(session_key(project_id, session_id), project_id)
        if row is None:
            raise session_not_found(session_id)
        return row

    async def list(
        self, listing: Listing, page_size: int, page_token: str, *, with_state: bool = False
    ) -> Page[SessionRow]:
        """Return a page of sessions.

        Args:
            listing: filter and order; this method sets limit and after.
            page_size: see Paging.
            page_token: see Paging.
            with_state: whether the page must have room for the states.

        Raises:
            Fault: INVALID_FIELD; INVALID_PAGE_TOKEN.
        """
        paging = Paging(page_size, page_token, ("sessions", listing), *_POSITIONS[listing.order])
        check_filter(listing.filter)
        found = await self._store.list(replace(listing, limit=paging.size, after=paging.after))
        listed, has_more = found.rows, found.has_more
        if with_state and listed:
            sizes = await self._store.state_sizes([session.row for session in listed])
            sums: Iterable[int] = accumulate(sizes)
            fitting = max(1, sum(size <= MAX_PAGE_BYTES for size in sums))
            listed, has_more = listed[:fitting], has_more or fitting < len(listed)
        page = paging.page(listed, attrgetter("sort_key"), has_more=has_more)
        return Page([session.row for session in page.items], page.next_page_token)

    async def states(self, rows: Sequence[SessionRow]) -> Sequence[str]:
        """Return the states of sessions as JSON text, in the order of the rows."""
        return await self._store.states(rows)

    async def update(
        self,
        project_id: UUID,
        session_id: str,
        values: dict[str, Any],
        patches: dict[str, dict[str, Any]],
        state: StateChange,
        *,
        etag: str,
        request_id: str,
    ) -> SessionRow:
        """Change settings and the state of a session.

        Args:
            project_id: the caller's project.
            session_id: the session.
            values: new values by name, as in SessionSettings.
            patches: RFC 7396 merge patches of `config` and `metadata`.
            state: the change of the state.
            etag: the etag that the session must have; "" for any.
            request_id: makes the update safe to repeat; "" for none.

        Returns:
            The updated session; its current state if the request is a repetition.

        Raises:
            Fault: SESSION_NOT_FOUND; ETAG_MISMATCH; INVALID_FIELD; REQUEST_ID_REUSED.
        """
        check_session_id(session_id, "session.session_id")
        check_request_id(request_id)
        check_texts(values)
        if "idle_ttl_ms" in values:
            values = values | {"idle_ttl_ms": stored_ttl(values["idle_ttl_ms"], self._limits)}
        for name in patches:
            if name in values:
                raise invalid(f"{name}_patch", f"cannot be combined with a new {name}")
        if not values and not patches and not state:
            raise invalid(
                "update_mask",
                "names no field; name one, or set metadata_patch, config_patch or state_patch",
            )
        key = session_key(project_id, session_id)
        content = ("update", sorted(values.items()), sorted(patches.items()), etag)
        if state:
            content += (*state.patch.content, state.etag)
        record = _record(key, request_id, *content)
        expected = _parse_etag(etag)
        for _ in range(ATTEMPTS):
            try:
                row = await self._store.update(
                    key, project_id, values, patches, expected, MAX_JSON_BYTES, record, state
                )
            except StateChanged as e:
                raise state_changed(session_id, e) from None
            except StateTooLarge as e:
                raise too_large(e) from None
            except DuplicateRequest:
                return await self.get(project_id, session_id)
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
            if expected:
                raise etag_mismatch(f"session {session_id!r}", session_id, etag_of(current))
        raise conflicting_recreation(session_id)

    async def set_status(
        self, project_id: UUID, session_id: str, status: SessionStatus, request_id: str
    ) -> SessionRow:
        """Destroy or resume a session.

        Returns:
            The session. For a repetition, its current state, which others may have changed since.

        Raises:
            Fault: SESSION_NOT_FOUND; INVALID_FIELD; REQUEST_ID_REUSED.
        """
        check_session_id(session_id)
        check_request_id(request_id)
        key = session_key(project_id, session_id)
        record = _record(key, request_id, "set state", status.value)
        try:
            row = await self._store.set_status(key, project_id, status, record)
        except DuplicateRequest:
            row = await self.get(project_id, session_id)
        else:
            if row is None:
                raise session_not_found(session_id)
            resumed = status == SessionStatus.ACTIVE
            event = lifecycle_event(events.RESUMED if resumed else events.DESTROYED, row)
            self._publisher.publish(event)
        # A repetition also ends the turns, since the first request may have failed after its
        # commit.
        if row.state == status == SessionStatus.DESTROYED:
            await self._end_turns(project_id, session_id)
        return row

    async def delete(
        self, project_id: UUID, session_id: str, *, allow_missing: bool, etag: str, request_id: str
    ) -> None:
        """Delete a session. Nothing of it can be read once this returns.

        Raises:
            Fault: SESSION_NOT_FOUND unless allow_missing; ETAG_MISMATCH; INVALID_FIELD;
                REQUEST_ID_REUSED.
        """
        check_session_id(session_id)
        check_request_id(request_id)
        key = session_key(project_id, session_id)
        record = _record(key, request_id, "delete", allow_missing, etag)
        expected = _parse_etag(etag)
        for _ in range(ATTEMPTS):
            try:
                deleted = await self._store.delete(key, project_id, expected, record)
            except DuplicateRequest:
                # If the session exists again, it was created after the first request.
                return
            if deleted:
                self._publisher.publish(lifecycle_event(events.DELETED, deleted))
                return
            current = await self._store.get(key, project_id)
            if current is None:
                if allow_missing:
                    return
                raise session_not_found(session_id)
            if expected:
                raise etag_mismatch(f"session {session_id!r}", session_id, etag_of(current))
        raise conflicting_recreation(session_id)


async def session_from_first_request(
    store: SessionStore,
    project_id: UUID,
    record: RequestRecord | None,
    duplicate: DuplicateRequest,
) -> SessionRow:
    """Return the session that the first request with this request_id created, copied or imported.

    Raises:
        Fault: REQUEST_ID_REUSED; SESSION_NOT_FOUND if the session has been deleted since.
    """
    assert record is not None  # noqa: S101 - only a record can be a duplicate
    first = duplicate.first or await store.find_request(record.key, NO_LOG, record.request_id)
    record.check_repeats(first)
    session_id = first.result if first else ""
    row = await store.get(session_key(project_id, session_id), project_id)
    if row is None:
        raise session_not_found(session_id)
    return row


def etag_of(row: SessionRow) -> str:
    """Return the etag of a session, which contains its log and its revision."""
    return f"{row.log.hex}-{row.revision}"


def expires_at_ms(row: SessionRow) -> int | None:
    """Return the time when a session expires if it is not accessed before.

    Returns:
        Milliseconds since 1970 UTC; None if the session never expires.
    """
    if row.idle_ttl_ms is None:
        return None
    return int(row.used_at.timestamp() * 1000) + row.idle_ttl_ms


def conflicting_recreation(session_id: str) -> Fault:
    """Return the fault for a change that failed because the session was re-created too often."""
    return Fault(
        "OVERLOADED",
        f"other callers keep deleting and re-creating session {session_id!r}; try again",
        retry_after_s=0.5,
    )


def _record(key: UUID, request_id: str, *content: Any) -> RequestRecord | None:
    return RequestRecord(key, request_id, content_hash(*content)) if request_id else None


def _parse_etag(etag: str) -> Etag | None:
    """Parse an etag. Return None for ""."""
    if not etag:
        return None
    log, _, revision = etag.partition("-")
    try:
        if not revision.isdecimal():
            raise ValueError(revision)
        # A number that does not fit into the column matches no session.
        return Etag(UUID(hex=log), int(revision) if len(revision) < 10 else 2**31 - 1)
    except ValueError:
        raise invalid("etag", "is not an etag of this server") from None
