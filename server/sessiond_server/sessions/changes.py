"""What the rules of tasks and bookmarks have in common."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol
from uuid import UUID

from sessiond_server.core.errors import Fault, session_not_found
from sessiond_server.core.ids import session_key
from sessiond_server.core.validation import check_request_id, check_session_id
from sessiond_server.db.idempotency import DuplicateRequest, RequestRecord, content_hash
from sessiond_server.sessions.store.lock import Change, SessionMissing


class Changeable(Protocol):
    """A store of what hangs on a session."""

    def change(
        self, key: UUID, project_id: UUID, record: RequestRecord | None
    ) -> AbstractAsyncContextManager[Change]:
        """Opens a transaction that holds the session's row."""


@asynccontextmanager
async def changing(
    store: Changeable,
    project_id: UUID,
    session_id: str,
    request_id: str,
    *content: Any,
    made: str = "",
) -> AsyncIterator[Change]:
    """A change of a session's tasks or bookmarks: all that happens in the block, or nothing where it ends with an exception.

    Args:
        content: of the request, to know its repetition by: its name and every field, as JSON has them.
        made: what a repetition is to be told: the task_id or name that this request leaves.
    Raises: DuplicateRequest; Fault SESSION_NOT_FOUND, INVALID_FIELD, REQUEST_ID_REUSED.
    """
    check_session_id(session_id)
    check_request_id(request_id)
    key = session_key(project_id, session_id)
    record = RequestRecord(key, request_id, content_hash(*content), made) if request_id else None
    try:
        async with store.change(key, project_id, record) as change:
            yield change
    except SessionMissing:
        raise session_not_found(session_id) from None
    except DuplicateRequest as duplicate:
        if record:
            record.check_repeats(duplicate.first)
        raise


def message_not_found(change: Change, session_id: str, seq: int, field: str) -> Fault:
    return Fault(
        "MESSAGE_NOT_FOUND",
        f"{field}: session {session_id!r} has no message {seq}; it is at seq {change.last_seq}",
        metadata={"session_id": session_id, "seq": seq, "last_seq": change.last_seq},
        fields={field: f"is {seq}, and the session is at seq {change.last_seq}"},
    )


def limit_exceeded(what: str, limit: int) -> Fault:
    return Fault(
        "LIMIT_EXCEEDED",
        f"a session has at most {limit} {what}; delete some first",
        metadata={"what": what, "limit": limit},
    )
