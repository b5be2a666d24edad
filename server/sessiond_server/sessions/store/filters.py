"""Filters of sessions, as conditions of a statement."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import eq, ge, le, lt
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import ColumnElement, bindparam, literal
from sqlalchemy.dialects.postgresql import JSONB

from sessiond_server.core.limits import MAX_SESSION_ID_CHARACTERS
from sessiond_server.db import schema as tables
from sessiond_server.db.expiry import alive

T = tables.sessions.c

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Selects sessions of a project, like SessionFilter in the protos."""

    project_id: UUID
    session_id_prefix: str = ""
    user_name: str = ""
    status: int = 0
    model: str = ""
    config_contains: dict[str, Any] | None = None
    metadata_contains: dict[str, Any] | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None
    active_from: datetime | None = None
    active_before: datetime | None = None


def filter_values(chosen: SessionFilter) -> dict[str, Any]:
    """Return the values of the conditions that a filter has, by the names of the conditions."""
    config, metadata, prefix = (
        chosen.config_contains,
        chosen.metadata_contains,
        chosen.session_id_prefix,
    )
    values = {
        "project_id": chosen.project_id,
        "user_name": chosen.user_name or None,
        "state": chosen.status or None,
        "model": chosen.model or None,
        "config": None if config is None else Jsonb(config),
        "metadata": None if metadata is None else Jsonb(metadata),
        "created_from": chosen.created_from,
        "created_before": chosen.created_before,
        "active_from": chosen.active_from,
        "active_before": chosen.active_before,
        # active_at has no index, so the minutes are limited as well.
        "active_from_minute": chosen.active_from and _minute(chosen.active_from),
        "active_before_minute": chosen.active_before and _minute(chosen.active_before),
        # Unlike LIKE, a range condition needs no escaping and can use the unique index, whose
        # collation "C" is byte order.
        "prefix": prefix or None,
        "prefix_end": _next_prefix(prefix) if prefix else None,
    }
    return {name: value for name, value in values.items() if value is not None}


def filter_conditions(chosen: SessionFilter) -> list[ColumnElement[bool]]:
    """Returns the conditions of a filter; expired sessions never match."""
    return [*conditions_of(chosen, *_CONDITIONS), alive()]


def conditions_of(chosen: SessionFilter, *names: str) -> list[ColumnElement[bool]]:
    """Return the conditions that a filter has, out of those with the given names.

    Args:
        chosen: the filter.
        names: names of conditions, which are also the names of their parameters.
    """
    values = filter_values(chosen)
    return [
        compare(column, bindparam(name, values[name], column.type))
        for name in names
        if name in values
        for column, compare in [_CONDITIONS[name]]
    ]


def _contains(column: ColumnElement[Any], value: ColumnElement[Any]) -> ColumnElement[bool]:
    return column.op("@>", is_comparison=True)(value)


CREATED_RANGE = ("created_from", "created_before")
ACTIVE_RANGE = ("active_from_minute", "active_before_minute")
_CONDITIONS: dict[str, tuple[ColumnElement[Any], Callable[[Any, Any], ColumnElement[bool]]]] = {
    "project_id": (T.project_id, eq),
    "user_name": (T.user_name, eq),
    "state": (T.state, eq),
    "model": (T.model, eq),
    "config": (T.config, _contains),
    "metadata": (T.metadata, _contains),
    "created_from": (T.created_at, ge),
    "created_before": (T.created_at, lt),
    "active_from": (T.active_at, ge),
    "active_before": (T.active_at, lt),
    "active_from_minute": (T.active_minute, ge),
    "active_before_minute": (T.active_minute, le),
    "prefix": (T.session_id, ge),
    "prefix_end": (T.session_id, lt),
}


def _minute(at: datetime) -> int:
    """Return the active_minute of an active_at."""
    return (at - _EPOCH) // timedelta(minutes=1)


def _next_prefix(prefix: str) -> str:
    """Return the smallest string above all strings with the prefix, in byte order."""
    # UTF-8 preserves the order of code points. Surrogates are not characters, so they are skipped.
    # The last code point has no successor, so the character before it is increased.
    head, last = prefix[:-1], ord(prefix[-1])
    if last == 0x10FFFF:
        return _next_prefix(head) if head else "\U0010ffff" * (MAX_SESSION_ID_CHARACTERS + 1)
    return head + chr(0xE000 if last == 0xD7FF else last + 1)


def as_jsonb(value: dict[str, Any]) -> ColumnElement[Any]:
    """Return a JSON object as a value of a statement."""
    return literal(Jsonb(value), JSONB)
