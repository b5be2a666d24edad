"""Results, errors and conversions of both clients of `sessiond.compat.acontext`. No I/O."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import grpc

from sessiond import errors
from sessiond._protocol.times import iso
from sessiond._types import message as _message
from sessiond._types import task as _task
from sessiond._types.session import SessionInfo, StoredRange

_KEY_PREFIX = "sk-sessiond-"
DEFAULT_LIMIT = 20

_Item = TypeVar("_Item")

# The closest HTTP status of each code; the reason in the text is more precise.
_STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
}


class AcontextError(Exception):
    """The base of all errors of the calls.

    Its `__cause__` is sessiond's own error, with code, reason and metadata.
    """


class APIError(AcontextError):
    """The server refused a call.

    `str(error)` has status and reason, e.g. "404: SESSION_NOT_FOUND: there is no session 'x'".

    Attributes:
        status_code: the closest HTTP status, e.g. 404.
        code: the same as status_code.
        message: the reason, and what happened.
        error: the reason alone, a name of sessiond.v1.ErrorReason.
        payload: details of the reason, e.g. {"session_id": "..."}.
    """

    def __init__(
        self, *, status_code: int, message: str, error: str, payload: Mapping[str, str]
    ) -> None:
        super().__init__(f"{status_code}: {message}")
        self.status_code = status_code
        self.code = status_code
        self.message = message
        self.error = error
        self.payload = payload


class TransportError(AcontextError):
    """The server did not answer, even after the client's retries.

    It is unreachable, overloaded or shutting down, or took too long.
    """


@contextmanager
def translated() -> Iterator[None]:
    """Raise AcontextErrors in place of sessiond's errors."""
    try:
        yield
    except (
        errors.Unavailable,
        errors.DeadlineExceeded,
        errors.Cancelled,
        errors.ClientClosed,
    ) as error:
        raise TransportError(str(error)) from error
    except errors.SessiondError as error:
        status = (
            413 if isinstance(error, errors.SessionTooLarge) else _STATUSES.get(error.code, 500)
        )
        raise APIError(
            status_code=status, message=str(error), error=error.reason, payload=error.metadata
        ) from error


@dataclass(frozen=True, slots=True)
class Session:
    """A session."""

    id: str
    """The session's id: a UUID, or the `use_uuid` that it was created with."""
    user_id: str | None
    """The user's name, since sessiond has no ids for users. None = no user."""
    configs: dict[str, Any]
    """The session's settings."""
    created_at: str
    """Time of creation. ISO 8601, in UTC."""
    updated_at: str
    """Time of the last append or change. ISO 8601, in UTC."""
    disable_task_tracking: bool = True
    """Always True: sessiond creates no tasks by itself."""


@dataclass(frozen=True, slots=True)
class Message:
    """A stored message."""

    id: str
    """The message's id: "SESSION_ID/SEQ"."""
    session_id: str
    """The session's id."""
    parent_id: str | None
    """The id of the previous message. None = this is the first one."""
    role: str
    """The role in the blob."""
    meta: dict[str, Any]
    """The caller's labels."""
    created_at: str
    """Time of storage. ISO 8601, in UTC."""
    updated_at: str
    """The same as created_at: messages never change."""


class TaskData(dict[str, Any]):
    """The caller's data about a task: a dict whose usual keys are also attributes."""

    @property
    def task_description(self) -> str:
        """The description. Empty = none."""
        return str(self.get("task_description", ""))

    @property
    def progresses(self) -> list[str] | None:
        """The progress notes. None = not given."""
        return self.get("progresses")

    @property
    def user_preferences(self) -> list[str] | None:
        """The user's preferences. None = not given."""
        return self.get("user_preferences")


@dataclass(frozen=True, slots=True)
class Task:
    """A task of a session."""

    id: str
    """The task's id."""
    session_id: str
    """The session's id."""
    order: int
    """The task's position among the session's tasks, from 1."""
    data: TaskData
    """The caller's data about the task."""
    status: str
    """The status: "pending", "running", "success" or "failed"."""
    created_at: str
    """Time of creation. ISO 8601, in UTC."""
    updated_at: str
    """Time of the last change. ISO 8601, in UTC."""
    is_planning: bool = False
    """Always False: sessiond has no hidden tasks."""


@dataclass(frozen=True, slots=True)
class _Page(Generic[_Item]):
    items: list[_Item]
    """The results, in order."""
    next_cursor: str | None
    """Cursor of the next page. None = this is the last page."""
    has_more: bool
    """Whether there is a next page."""


class ListSessionsOutput(_Page[Session]):
    """A page of sessions."""

    __slots__ = ()


class GetTasksOutput(_Page[Task]):
    """A page of tasks."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class GetMessagesOutput(_Page[dict[str, Any]]):
    """A page of messages in the provider's format, oldest first."""

    ids: list[str]
    """The messages' ids."""
    metas: list[dict[str, Any]]
    """The messages' labels."""
    this_time_tokens: int
    """Number of tokens of the page's messages."""
    public_urls: dict[str, Any] = field(default_factory=dict)
    """Always empty: sessiond has no public URLs."""


def key_of(api_key: str | None) -> str | None:
    """Return the key to send: a sessiond key, or None.

    A key of another service is not sent: even a server that requires no keys would refuse it, and
    it must not be disclosed.
    """
    return api_key if api_key is not None and api_key.startswith(_KEY_PREFIX) else None


def target_of(base_url: str | None) -> tuple[str | None, bool]:
    """Return HOST:PORT of a URL, and whether it requires TLS.

    The path, such as "/api/v1", is ignored. None = the client's default.
    """
    if not base_url:
        return None, False
    if not re.match(r"\w+://", base_url):
        return base_url, False
    parts = urlsplit(base_url)
    return parts.netloc, parts.scheme == "https"


def blob_of(blob: Any) -> Any:
    """Return a message as sessiond's client accepts it: objects of an SDK become dicts."""
    return blob.model_dump() if hasattr(blob, "model_dump") else blob


def session_of(info: SessionInfo) -> Session:
    return Session(
        info.session_id, info.user or None, info.config, iso(info.created_at), iso(info.active_at)
    )


def stored_message(
    session_id: str, blob: Mapping[str, Any], meta: Mapping[str, Any] | None, stored: StoredRange
) -> Message:
    assert stored.create_time is not None  # noqa: S101 - nothing is skipped
    seq, time = stored.last_seq, iso(stored.create_time)
    parent_id = f"{session_id}/{seq - 1}" if seq > 1 else None
    return Message(
        f"{session_id}/{seq}",
        session_id,
        parent_id,
        str(blob.get("role", "")),
        dict(meta or {}),
        time,
        time,
    )


def page_of_messages(
    found: Sequence[_message.Message], limit: int, format: str, *, newest_first: bool
) -> GetMessagesOutput:
    """Return a page of messages, oldest first.

    Args:
        found: the messages in reading order, with one more than the limit if there is a next page.
        limit: length of a page. 0 = unlimited.
        format: the format that every message must have.
        newest_first: whether `found` begins with the newest message.

    Raises:
        InvalidField: a message has another format.
    """
    page = list(found[:limit] if limit else found)
    has_more = len(found) > len(page)
    next_cursor = str(page[-1].seq) if has_more else None
    if newest_first:
        page.reverse()
    for message in page:
        if message.format != format:
            stored = message.format or "typed parts"
            raise errors.invalid_field(
                "format",
                f'is "{format}", but message {message.seq} is stored as {stored}; '
                "sessiond does not convert messages",
            )
    return GetMessagesOutput(
        items=[message.blob for message in page],
        ids=[message.id for message in page],
        metas=[message.metadata for message in page],
        next_cursor=next_cursor,
        has_more=has_more,
        this_time_tokens=sum(message.token_count for message in page),
    )


def page_of_tasks(
    session_id: str,
    found: Iterable[_task.Task],
    limit: int | None,
    cursor: str | None,
    *,
    newest_first: bool,
) -> GetTasksOutput:
    """Return a page of a session's tasks, ordered by their creation.

    Args:
        session_id: the session's id.
        found: all tasks of the session.
        limit: length of a page. Default: 20.
        cursor: next_cursor of the previous page. None = the first page.
        newest_first: whether the newest task comes first.

    Raises:
        InvalidField: the cursor is malformed.
    """
    tasks = sorted(found, key=attrgetter("created_at", "position"), reverse=newest_first)
    start = number_of(cursor)
    end = start + (limit or DEFAULT_LIMIT)
    items = [
        Task(
            t.task_id,
            session_id,
            t.position,
            TaskData(t.data),
            t.status,
            iso(t.created_at),
            iso(t.updated_at),
        )
        for t in tasks[start:end]
    ]
    has_more = end < len(tasks)
    return GetTasksOutput(items, str(end) if has_more else None, has_more)


def number_of(cursor: str | None) -> int:
    """Return the number in a cursor; None = 0.

    Raises:
        InvalidField: the cursor is malformed.
    """
    if cursor and not (cursor.isascii() and cursor.isdigit()):
        raise errors.invalid_field("cursor", "is malformed; pass next_cursor of the previous page")
    return int(cursor or 0)
