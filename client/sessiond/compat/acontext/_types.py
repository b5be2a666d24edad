"""What both clients of `sessiond.compat.acontext` share: answers, errors, settings. No I/O in here."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any
from urllib.parse import urlsplit

import grpc

from sessiond import errors
from sessiond._protocol.times import iso
from sessiond._types import message as _message
from sessiond._types import task as _task
from sessiond._types.session import SessionInfo, StoredRange

_KEY_PREFIX = "sk-sessiond-"
DEFAULT_LIMIT = 20

# What HTTP would say; where a code's meaning is wider than the status, the reason in the text tells.
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
    """The base of everything that the calls raise. Its `__cause__` is sessiond's own error, with code, reason and metadata."""


class APIError(AcontextError):
    """The server refused a call. `str(error)` has the reason, e.g. "404: SESSION_NOT_FOUND: there is no session 'x'".

    Attributes:
        status_code: what HTTP would have said.
        code: the same.
        message: the reason and what happened, in words.
        error: the reason alone, a name of sessiond.v1.ErrorReason.
        payload: the reason's facts, e.g. {"session_id": "..."}.
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
    """No answer came: the server cannot be reached, is overloaded or going, or took too long. The client had tried again by itself."""


@contextmanager
def translated() -> Iterator[None]:
    """Raises AcontextErrors in the place of sessiond's."""
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
    """Its id: a UUID, or what the program chose by `use_uuid`."""
    user_id: str | None
    """The user's name as the program gave it: sessiond makes no ids for users. None = nobody named."""
    configs: dict[str, Any]
    """Settings of the conversation."""
    created_at: str
    """ISO 8601, in UTC."""
    updated_at: str
    """When a message was last appended, or the session was created or changed. ISO 8601, in UTC."""
    disable_task_tracking: bool = True
    """Always: sessiond makes no tasks by itself."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message that was stored."""

    id: str
    """ "SESSION_ID/SEQ"."""
    session_id: str
    """The session's."""
    parent_id: str | None
    """The id of the message before it. None = it is the first one."""
    role: str
    """As the blob has it."""
    meta: dict[str, Any]
    """The caller's own labels."""
    created_at: str
    """ISO 8601, in UTC."""
    updated_at: str
    """The same: messages never change."""


class TaskData(dict[str, Any]):
    """What is kept about a task: a dict, whose usual keys are attributes too."""

    @property
    def task_description(self) -> str:
        """Empty = none."""
        return str(self.get("task_description", ""))

    @property
    def progresses(self) -> list[str] | None:
        """None = not given."""
        return self.get("progresses")

    @property
    def user_preferences(self) -> list[str] | None:
        """None = not given."""
        return self.get("user_preferences")


@dataclass(frozen=True, slots=True)
class Task:
    """A task of a session."""

    id: str
    """Its id."""
    session_id: str
    """The session's."""
    order: int
    """Its place in the session's order of tasks, from 1."""
    data: TaskData
    """What is kept about it."""
    status: str
    """ "pending", "running", "success" or "failed"."""
    created_at: str
    """ISO 8601, in UTC."""
    updated_at: str
    """ISO 8601, in UTC."""
    is_planning: bool = False
    """Always: sessiond has no hidden tasks."""


@dataclass(frozen=True, slots=True)
class ListSessionsOutput:
    """A page of sessions."""

    items: list[Session]
    """The sessions, in order."""
    next_cursor: str | None
    """Asks for the next page. None = this was the last one."""
    has_more: bool
    """Whether there is a next page."""


@dataclass(frozen=True, slots=True)
class GetTasksOutput:
    """A page of tasks."""

    items: list[Task]
    """The tasks, in order."""
    next_cursor: str | None
    """Asks for the next page. None = this was the last one."""
    has_more: bool
    """Whether there is a next page."""


@dataclass(frozen=True, slots=True)
class GetMessagesOutput:
    """A page of messages, the oldest of them first."""

    items: list[dict[str, Any]]
    """The messages, in the provider's format."""
    ids: list[str]
    """Their ids."""
    metas: list[dict[str, Any]]
    """Their labels."""
    next_cursor: str | None
    """Asks for the next page. None = this was the last one."""
    has_more: bool
    """Whether there is a next page."""
    this_time_tokens: int
    """How many tokens they have together."""
    public_urls: dict[str, Any] = field(default_factory=dict)
    """Always empty: sessiond gives no public URLs."""


def key_of(api_key: str | None) -> str | None:
    """The key to send. Only sessiond's own are: another service's would be refused even where none is needed, and is not ours to see."""
    return api_key if api_key is not None and api_key.startswith(_KEY_PREFIX) else None


def target_of(base_url: str | None) -> tuple[str | None, bool]:
    """HOST:PORT of a URL, and whether it asks for TLS. The path, such as "/api/v1", means nothing here. None = the client's default."""
    if not base_url:
        return None, False
    if not re.match(r"\w+://", base_url):
        return base_url, False
    parts = urlsplit(base_url)
    return parts.netloc, parts.scheme == "https"


def blob_of(blob: Any) -> Any:
    """A message as sessiond's client takes it: an object of a provider's SDK as its dict."""
    return blob.model_dump() if hasattr(blob, "model_dump") else blob


def session_of(info: SessionInfo) -> Session:
    return Session(
        info.session_id, info.user or None, info.config, iso(info.created_at), iso(info.active_at)
    )


def stored_message(
    session_id: str, blob: Mapping[str, Any], meta: Mapping[str, Any] | None, stored: StoredRange
) -> Message:
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
    """A page.

    Args:
        found: in the order of the reading, one more than the page holds where there is another page.
        limit: 0 = none.
    Raises: InvalidField where a message is of another format.
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
                f'is "{format}", and message {message.seq} is stored as {stored}; sessiond does not convert',
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
    """A page of all tasks, by the time of their creation. Raises: InvalidField for a cursor that is none."""
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
    """What a cursor says; None = 0. Raises: InvalidField."""
    if cursor and not (cursor.isascii() and cursor.isdigit()):
        raise errors.invalid_field("cursor", "is none; give next_cursor of the page before")
    return int(cursor or 0)
