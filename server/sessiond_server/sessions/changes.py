"""Rules that tasks and bookmarks share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from sessiond_server.core.errors import Fault, session_destroyed, session_not_found
from sessiond_server.core.ids import session_key
from sessiond_server.core.states import SessionStatus
from sessiond_server.core.validation import check_request_id, check_session_id
from sessiond_server.db.idempotency import RequestRecord, content_hash
from sessiond_server.sessions.store.children import ChildStore
from sessiond_server.sessions.store.lock import Change, SessionMissing, change


@asynccontextmanager
async def changing(
    store: ChildStore[Any],
    project_id: UUID,
    session_id: str,
    request_id: str,
    *content: Any,
    result: str = "",
    purpose: str = "",
) -> AsyncIterator[Change]:
    """Open a change of a session.

    The change is committed at the end of the block, and rolled back on an exception.

    Args:
        store: the store of the objects to be changed.
        project_id: the caller's project.
        session_id: the session to be changed.
        request_id: makes the change safe to repeat; "" for none.
        content: the request's name and fields, as JSON values. A repetition must have the same
            content.
        result: task_id or name of the changed object, which is returned to a repetition.
        purpose: reason to resume the session first, if it is destroyed; "" if destroyed sessions
            may be changed.

    Raises:
        DuplicateRequest: if the request is a repetition.
        Fault: SESSION_NOT_FOUND; INVALID_FIELD for a malformed session_id or request_id;
            REQUEST_ID_REUSED if the request_id was used with other content; SESSION_DESTROYED.
    """
    check_session_id(session_id)
    check_request_id(request_id)
    key = session_key(project_id, session_id)
    record = RequestRecord(key, request_id, content_hash(*content), result) if request_id else None
    try:
        async with change(store.database, key, project_id, record) as begun:
            if purpose and begun.state == SessionStatus.DESTROYED:
                raise session_destroyed(session_id, purpose)
            yield begun
    except SessionMissing:
        raise session_not_found(session_id) from None


def message_not_found(change: Change, session_id: str, seq: int, field: str) -> Fault:
    """Return the fault for a field that refers to a message after the newest one."""
    return Fault(
        "MESSAGE_NOT_FOUND",
        f"{field}: session {session_id!r} has no message {seq}; it is at seq {change.last_seq}",
        metadata={"session_id": session_id, "seq": seq, "last_seq": change.last_seq},
        fields={field: f"is {seq}, and the session is at seq {change.last_seq}"},
    )


def limit_exceeded(what: str, limit: int) -> Fault:
    """Return the fault for an object that would exceed the session's limit."""
    return Fault(
        "LIMIT_EXCEEDED",
        f"a session has at most {limit} {what}; delete some first",
        metadata={"what": what, "limit": limit},
    )
