"""Copies of sessions, and their lineage: the rules of CopySession and ListCopies."""

import uuid
from dataclasses import astuple, replace
from functools import partial
from uuid import UUID

from sessiond_server.copies.store.copies import (
    Copy,
    CopyRequest,
    CopyRow,
    CopyStore,
    CopyTooLarge,
    NoSource,
    NoSuchBookmark,
    NoSuchSeq,
)
from sessiond_server.core import pagination
from sessiond_server.core.errors import Fault, invalid, session_not_found
from sessiond_server.core.events import CREATED, EventPublisher
from sessiond_server.core.ids import creation_key, session_key, uuid7
from sessiond_server.core.limits import (
    MAX_NAME_CHARACTERS,
    MAX_TITLE_CHARACTERS,
)
from sessiond_server.core.pagination import Page, Paging
from sessiond_server.core.validation import (
    check_bookmark_name,
    check_request_id,
    check_session_id,
    check_text,
)
from sessiond_server.db.idempotency import DuplicateRequest, RequestRecord, content_hash
from sessiond_server.quotas.service import Quotas
from sessiond_server.sessions.lifecycle_events import lifecycle_event
from sessiond_server.sessions.service import session_from_first_request
from sessiond_server.sessions.settings import NEVER, checked_ttl
from sessiond_server.sessions.state import too_large
from sessiond_server.sessions.store.sessions import SessionRow, SessionStore
from sessiond_server.sessions.store.state import NO_PATCH, StateTooLarge
from sessiond_server.telemetry import metrics


class Copies:
    """Copies of sessions.

    Args:
        store: store of the copies.
        sessions: store of the sessions.
        max_messages: maximum number of messages in a copy; 0 = no limit.
        publisher: publishes the creation of copies.
        quotas: the limits of projects.
    """

    def __init__(
        self,
        store: CopyStore,
        sessions: SessionStore,
        max_messages: int,
        publisher: EventPublisher,
        quotas: Quotas,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._max_messages = max_messages
        self._publisher = publisher
        self._quotas = quotas

    async def copy(self, project_id: UUID, request: CopyRequest) -> SessionRow:
        """Create a copy.

        Raises:
            Fault: with the reasons listed at CopySession in the protos.
        """
        _check(request)
        new_id = request.new_session_id or str(uuid7())
        record = (
            RequestRecord(
                creation_key(project_id, request.request_id),
                request.request_id,
                _content_of(request),
                new_id,
            )
            if request.request_id
            else None
        )
        copy = Copy(
            request=request,
            project_id=project_id,
            source_key=session_key(project_id, request.session_id),
            new_key=session_key(project_id, new_id),
            new_id=new_id,
            new_log=uuid.uuid4(),
            max_messages=self._max_messages,
        )
        room = await self._quotas.reserve(
            project_id,
            unless=partial(self._sessions.is_recorded, record),
            max_sessions=1,
            max_bytes=await self._bytes_of(copy),
        )
        try:
            async with room:
                made = await self._store.copy(copy, record)
                if made is None:
                    room.give_back()
                elif request.up_to is not None:
                    room.more("max_bytes", made.content_bytes - 1)
        except DuplicateRequest as duplicate:
            return await session_from_first_request(self._sessions, project_id, record, duplicate)
        except (NoSource, NoSuchSeq, NoSuchBookmark, CopyTooLarge) as e:
            raise self._refusal(request, e) from None
        except StateTooLarge as e:
            raise too_large(e) from None
        if made is None:
            raise Fault(
                "SESSION_ALREADY_EXISTS",
                f"session {new_id!r} already exists; choose another new_session_id, or leave "
                "it out",
                metadata={"session_id": new_id},
                fields={"new_session_id": "is the id of a session that exists"},
            )
        self._publisher.publish(lifecycle_event(CREATED, made))
        metrics.COPIES.inc()
        return made

    def _refusal(
        self,
        request: CopyRequest,
        why: NoSource | NoSuchSeq | NoSuchBookmark | CopyTooLarge,
    ) -> Fault:
        """Return the fault of a request for a copy that cannot be made."""
        match why:
            case NoSource():
                return session_not_found(request.session_id)
            case NoSuchSeq():
                return Fault(
                    "MESSAGE_NOT_FOUND",
                    f"up_to_seq: session {request.session_id!r} has no message {request.up_to}; it "
                    f"is at seq {why.last_seq}",
                    metadata={
                        "session_id": request.session_id,
                        "seq": request.up_to,
                        "last_seq": why.last_seq,
                    },
                    fields={"up_to_seq": "names no message of the session"},
                )
            case NoSuchBookmark():
                return Fault(
                    "BOOKMARK_NOT_FOUND",
                    f"up_to_bookmark: session {request.session_id!r} has no bookmark "
                    f"{request.up_to!r}",
                    metadata={"session_id": request.session_id, "name": request.up_to},
                    fields={"up_to_bookmark": "names no bookmark of the session"},
                )
            case CopyTooLarge():
                return Fault(
                    "SESSION_TOO_LARGE",
                    f"session {request.session_id!r}: a copy would have {why.messages} messages; "
                    f"this server's operator allows {self._max_messages}",
                    metadata={
                        "session_id": request.session_id,
                        "message_count": why.messages,
                        "max_messages": self._max_messages,
                    },
                )

    async def _bytes_of(self, copy: Copy) -> int:
        """Return the number of bytes to reserve for a copy within the project's limit.

        The size of a copy of a part is known only once it is made, so 1 byte is reserved until
        then. For a whole copy, the size of the source is reserved; 0 if the project has no limit.
        """
        if copy.request.up_to is not None:
            return 1
        if not self._quotas.has_limit(copy.project_id, "max_bytes"):
            return 0
        source = await self._sessions.get(copy.source_key, copy.project_id)
        return source.content_bytes if source else 0

    async def list(
        self, project_id: UUID, session_id: str, page_size: int, page_token: str
    ) -> Page[CopyRow]:
        """List the existing copies of a session, newest first.

        Raises:
            Fault: SESSION_NOT_FOUND, INVALID_FIELD or INVALID_PAGE_TOKEN.
        """
        check_session_id(session_id)
        key = session_key(project_id, session_id)
        row = await self._sessions.get(key, project_id)
        if row is None:
            raise session_not_found(session_id)
        paging = Paging(page_size, page_token, ("copies", row.log), pagination.time, UUID)
        rows = await self._store.copies_of(key, row.log, project_id, paging.after, paging.size + 1)
        return paging.page(rows, lambda copy: (copy.created_at, copy.key))


def _content_of(request: CopyRequest) -> bytes:
    # A request without a change of the state has the hash that servers of earlier versions compute.
    values = astuple(replace(request, state=NO_PATCH))[:-1]
    return content_hash("copy", *values, *(request.state.content if request.state else ()))


def _check(request: CopyRequest) -> None:
    """Check the request's fields.

    Raises:
        Fault: INVALID_FIELD if a field is invalid.
    """
    check_session_id(request.session_id)
    if request.new_session_id:
        check_session_id(request.new_session_id, "new_session_id")
    check_request_id(request.request_id)
    for field, text, most in (
        ("model", request.model, MAX_NAME_CHARACTERS),
        ("user", request.user_name, MAX_NAME_CHARACTERS),
        ("title", request.title, MAX_TITLE_CHARACTERS),
    ):
        check_text(field, text or "", most)
    if isinstance(request.up_to, int) and request.up_to < 0:
        raise invalid("up_to_seq", "is negative; 0 = no message")
    if isinstance(request.up_to, str):
        check_bookmark_name(request.up_to, "up_to_bookmark")
    if request.idle_ttl_ms != NEVER:
        checked_ttl(request.idle_ttl_ms, "idle_ttl")
