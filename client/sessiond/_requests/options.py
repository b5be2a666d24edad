"""Keyword arguments that several calls share, as typed dicts."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypedDict


class SessionSettings(TypedDict, total=False):
    """What a session can be created with, as in `client.sessions.create`."""

    model: str | None
    user: str | None
    title: str | None
    config: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    idle_ttl: timedelta | float | None
    never_expires: bool
    request_id: str | None
    timeout: float | None


class SessionChanges(TypedDict, total=False):
    """What can be changed of a session, as in `client.sessions.update`."""

    model: str | None
    user: str | None
    title: str | None
    config: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    config_patch: Mapping[str, Any] | None
    metadata_patch: Mapping[str, Any] | None
    idle_ttl: timedelta | float | None
    never_expires: bool
    etag: str | None
    request_id: str | None
    timeout: float | None


class SessionFilters(TypedDict, total=False):
    """Which sessions to list and in which order, as in `client.sessions.list`."""

    session_id_prefix: str | None
    user: str | None
    state: str | None
    model: str | None
    config_contains: Mapping[str, Any] | None
    metadata_contains: Mapping[str, Any] | None
    created_from: datetime | None
    created_before: datetime | None
    active_from: datetime | None
    active_before: datetime | None
    order: str | None
    page_size: int | None
    timeout: float | None


class CopyOptions(TypedDict, total=False):
    """What a copy is to be, as in `client.sessions.copy`."""

    up_to_seq: int | None
    up_to_bookmark: str | None
    model: str | None
    user: str | None
    title: str | None
    config: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    idle_ttl: timedelta | float | None
    never_expires: bool
    keep_processing_status: bool
    keep_task_links: bool
    request_id: str | None
    timeout: float | None


class SinceOptions(TypedDict, total=False):
    """Which messages after a place to read, as in `client.sessions.get_messages`."""

    through_seq: int | None
    limit: int | None
    order: str
    roles: Sequence[str] | None
    view: str
    timeout: float | None


class ReadOptions(SinceOptions, total=False):
    """Which messages to read, as in `client.sessions.get_messages`."""

    after_seq: int | None
    after_bookmark: str | None


class EventOptions(TypedDict, total=False):
    """Which events to watch, as in `client.sessions.events`."""

    types: Sequence[str] | None
    timeout: float | None


class TaskSettings(TypedDict, total=False):
    """What a task can be created with, as in `client.tasks.create`."""

    status: str
    data: Mapping[str, Any] | None
    message_seqs: Iterable[int]
    request_id: str | None
    timeout: float | None


class TaskChanges(TypedDict, total=False):
    """What can be changed of a task, as in `client.tasks.update`."""

    status: str | None
    data: Mapping[str, Any] | None
    data_patch: Mapping[str, Any] | None
    message_seqs: Iterable[int] | None
    link: Iterable[int]
    unlink: Iterable[int]
    etag: str | None
    request_id: str | None
    timeout: float | None


class BookmarkSettings(TypedDict, total=False):
    """What a bookmark can be created with, as in `client.bookmarks.create`."""

    seq: int | None
    description: str
    replace: bool
    request_id: str | None
    timeout: float | None


class BookmarkChanges(TypedDict, total=False):
    """What can be changed of a bookmark, as in `client.bookmarks.update`."""

    seq: int | None
    description: str | None
    new_name: str | None
    request_id: str | None
    timeout: float | None


class AppendOptions(TypedDict, total=False):
    """How messages are appended, as in `client.sessions.store_messages`."""

    expected_last_seq: int | None
    request_id: str | None
    timeout: float | None
