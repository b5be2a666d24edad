"""Keyword arguments that several calls share.

Each TypedDict is flat and documents each keyword, because the reference copies these texts for
calls that take `**keywords: Unpack[...]`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypedDict

from sessiond._requests.input import MessageInput


class SessionSettings(TypedDict, total=False):
    """The settings of a session. None is the same as leaving a setting out."""

    model: str | None
    """Model that the conversation uses, at most 256 characters. "" = none."""
    user: str | None
    """User whom the conversation belongs to, at most 256 characters. "" = none."""
    title: str | None
    """Name for people to read, at most 512 characters. "" = none."""
    config: Mapping[str, Any] | None
    """Settings of the conversation: a JSON object of at most 64 KiB, integers below 2^53. Its key
    model_options, a dict of at most 1 MiB, keeps the order of its keys and all numbers."""
    metadata: Mapping[str, Any] | None
    """Labels of the caller: a JSON object of at most 64 KiB, integers below 2^53."""
    idle_ttl: timedelta | float | None
    """How long the session lives unused: a timedelta or seconds, from 1 second to 10 years."""
    never_expires: bool
    """True keeps the session until it is deleted. Not together with idle_ttl."""


class SessionUpdate(SessionSettings, total=False):
    """The changes of an update of a session. None is the same as leaving a setting out."""

    state: Mapping[str, Any] | None
    """New values of top-level keys of the session's state: JSON values. None sets a key to null."""
    remove_state: Iterable[str] | None
    """Top-level keys to remove from the session's state."""
    state_etag: str | None
    """The update fails unless this is the current etag of the session's state."""


class SessionFilter(TypedDict, total=False):
    """Conditions on sessions. A session must meet all given conditions."""

    session_id_prefix: str | None
    """Prefix of session_id, case-sensitive."""
    user: str | None
    """Sessions of this user."""
    status: str | None
    """Sessions with this status: "active" or "destroyed"."""
    model: str | None
    """Sessions of this model."""
    config_contains: Mapping[str, Any] | None
    """Sessions whose config contains this JSON object, as PostgreSQL's jsonb @> defines it."""
    metadata_contains: Mapping[str, Any] | None
    """Sessions whose metadata contains this JSON object, as PostgreSQL's jsonb @> defines it."""
    created_from: datetime | None
    """Sessions created at this time or later. All times need a time zone."""
    created_before: datetime | None
    """Sessions created before this time."""
    active_from: datetime | None
    """Sessions last active at this time or later."""
    active_before: datetime | None
    """Sessions last active before this time."""


class ListSessionsOptions(SessionFilter, total=False):
    """The keywords of `list_sessions` in one dict."""

    order: str | None
    page_size: int | None
    timeout: float | None


class EventOptions(TypedDict, total=False):
    """Options for following a session's events, except the seq after which to begin."""

    after_epoch: int | None
    """The epoch to which after_seq belongs (`Event.epoch`). Default: the session's epoch."""
    types: Sequence[str] | None
    """Yield only events of these types. Default: all."""
    follow_recreated: bool
    """When the session is deleted, wait until another one is created with its id."""
    on_connection: Callable[[bool], None] | None
    """Called with True when a connection has begun to deliver, and with False when it has ended."""
    timeout: float | None
    """Deadline of the whole stream, in seconds. Default: no deadline."""


class ReadOptions(TypedDict, total=False):
    """Which messages to read, and how."""

    branch_of: int | None
    """Only the branch that ends with the message of this seq: this message, its parent, and so on
    to the first message. Default: the messages of all branches."""
    through_seq: int | None
    """Last seq to read. Default: the newest when the iteration begins."""
    limit: int | None
    """Maximum number of messages to read. Default: all."""
    order: str
    """Either "asc" (default) or "desc" (from through_seq backwards; a limit keeps the newest)."""
    roles: Sequence[str] | None
    """Only these roles: "user", "assistant", "system", "developer", "tool". Default: all."""
    expected_epoch: int | None
    """The read fails if the session has another epoch. An earlier read is continued safely with its
    epoch.
    """
    view: str
    """Either "full" (default), "basic" (only seq, created_at, role, format and content_bytes) or
    "parts" (the content of every format as typed parts)."""
    timeout: float | None
    """Deadline of the whole read, in seconds. Default: none."""


class CopySettings(SessionSettings, total=False):
    """The settings of a copy. None is the same as leaving a setting out."""

    state: Mapping[str, Any] | None
    """New values of top-level keys of the copy's state. Other keys have the source's values."""
    remove_state: Iterable[str] | None
    """Top-level keys to remove from the copy's state."""


class AppendOptions(TypedDict, total=False):
    """How to append messages."""

    expected_last_seq: int | None
    """Store nothing unless the session's last_seq is this; 0 = the session must be empty."""
    expected_epoch: int | None
    """Store nothing unless the session's epoch is this."""
    format_name: str | None
    """With format "other", the program whose messages these are, e.g. "claude-code": at most 64
    characters."""
    create: SessionSettings | None
    """Settings with which the session is made, in the same commit, if there is none. An existing
    session stays as it is."""
    state: Mapping[str, Any] | None
    """New values of top-level keys of the session's state, in the commit of the append."""
    remove_state: Iterable[str] | None
    """Top-level keys to remove from the session's state, in the commit of the append."""
    state_etag: str | None
    """Store nothing unless this is the current etag of the session's state."""
    on_duplicate: str | None
    """What happens to messages whose message_id the session has already: "refuse" (default; nothing
    is stored) or "skip" (they are left out and counted, and the others are stored)."""
    extract_files: bool | int
    """First upload the files inside the messages (data URLs and base64) as assets, and store
    references to them. True = files of 256 KiB or more; a number = files of at least this many
    bytes."""
    request_id: str | None
    """Makes the append safe to repeat, at most 128 characters. Default: a random one."""
    timeout: float | None
    """Deadline over all attempts, in seconds. Default: the client's; for an import, none."""


class RewindOptions(TypedDict, total=False):
    """The conditions and options of a rewind."""

    expected_last_seq: int | None
    """Change nothing unless the session's last_seq is this before the rewind."""
    expected_epoch: int | None
    """Change nothing unless the session's epoch is this before the rewind."""
    state: Mapping[str, Any] | None
    """New values of top-level keys of the session's state, in the commit of the rewind."""
    remove_state: Iterable[str] | None
    """Top-level keys to remove from the session's state, in the commit of the rewind."""
    state_etag: str | None
    """Change nothing unless this is the current etag of the session's state."""
    abort_turn: bool
    """Whether to abort the running turn, if there is one. Default: TurnRunning is raised."""
    format_name: str | None
    """With format "other", the program whose messages these are: at most 64 characters."""
    request_id: str | None
    """Makes the rewind safe to repeat, at most 128 characters. Default: a random one."""
    timeout: float | None
    """Deadline over all attempts, in seconds. Default: the client's."""


class TaskSettings(TypedDict, total=False):
    """The settings of a task. None is the same as leaving a setting out."""

    status: str | None
    """Either "pending", "running", "success" or "failed"."""
    data: Mapping[str, Any] | None
    """Data about the task: a JSON object of at most 64 KiB, integers below 2^53."""
    message_seqs: Iterable[int] | None
    """Seqs of the task's messages, which must exist; at most 10,000. A StoredRange, for example."""


class PreviewOptions(TypedDict, total=False):
    """The content of a preview, and its options."""

    messages: Iterable[MessageInput] | None
    """Messages as in send, instead of a prompt."""
    format: str | None
    """Format of dicts and JSON texts in messages, as in send."""
    model: str | None
    """Model to ask. Default: the session's, or the server's default."""
    options: Mapping[str, Any] | None
    """Fields of the request to the model, as in send."""
    parent_seq: int | None
    """Seq of the message that the turn would continue. Default: the newest message."""
    timeout: float | None
    """Deadline over all attempts, in seconds. Default: the client's."""
