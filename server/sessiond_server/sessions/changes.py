"""What the rules of tasks and bookmarks have in common."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from sessiond_server.bookmarks.store import BookmarkStore
from sessiond_server.core.errors import Fault, invalid, request_id_reused, session_not_found
from sessiond_server.core.ids import check_request_id, check_session_id, session_key
from sessiond_server.core.limits import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from sessiond_server.sessions.service import content_hash
from sessiond_server.sessions.store.lock import Change, Repeated, SessionMissing
from sessiond_server.sessions.store.sessions import Record
from sessiond_server.tasks.store import TaskStore


@asynccontextmanager
async def changing(
    store: TaskStore | BookmarkStore, project_id: UUID, session_id: str, request_id: str, *content: Any, made: str = ""
) -> AsyncIterator[Change]:
    """A change of a session's tasks or bookmarks: all that happens in the block, or nothing where it ends with an exception.

    Args:
        content: of the request, to know its repetition by: its name and every field, as JSON has them.
        made: what a repetition is to be told: the task_id or name that this request leaves.
    Raises: Repeated; Fault SESSION_NOT_FOUND, INVALID_FIELD, REQUEST_ID_REUSED.
    """
    check_session_id(session_id)
    check_request_id(request_id)
    key = session_key(project_id, session_id)
    record = Record(key, request_id, content_hash(*content), made) if request_id else None
    try:
        async with store.change(key, project_id, record) as change:
            yield change
    except SessionMissing:
        raise session_not_found(session_id) from None
    except Repeated as first:
        if record is None or first.content_hash != record.content_hash:
            raise request_id_reused(request_id) from None
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


def page_size_of(page_size: int) -> int:
    """How many things to put on a page, of what was asked for. Raises: Fault INVALID_FIELD."""
    if page_size < 0:
        raise invalid("page_size", "is negative")
    return min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
