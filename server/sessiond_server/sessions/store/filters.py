"""Filters of sessions, as conditions of a statement."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import ColumnElement, literal
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


def filter_conditions(chosen: SessionFilter) -> list[ColumnElement[bool]]:
    """Return the conditions of a filter; expired sessions never match."""
    equal = ((T.user_name, chosen.user_name), (T.state, chosen.status), (T.model, chosen.model))
    contained = ((T.config, chosen.config_contains), (T.metadata, chosen.metadata_contains))
    conditions = [
        T.project_id == chosen.project_id,
        alive(),
        *(column == value for column, value in equal if value),
        *(column.op("@>")(as_jsonb(value)) for column, value in contained if value is not None),
        *created_range(chosen),
        # active_at has no index, so the minutes are limited as well.
        *active_range(chosen),
    ]
    if chosen.active_from is not None:
        conditions.append(T.active_at >= chosen.active_from)
    if chosen.active_before is not None:
        conditions.append(T.active_at < chosen.active_before)
    if chosen.session_id_prefix:
        # Unlike LIKE, a range condition needs no escaping and can use the unique index, whose
        # collation "C" is byte order.
        prefix = chosen.session_id_prefix
        conditions += [T.session_id >= prefix, T.session_id < _next_prefix(prefix)]
    return conditions


def created_range(chosen: SessionFilter) -> list[ColumnElement[bool]]:
    """Return the conditions of a filter on created_at."""
    conditions: list[ColumnElement[bool]] = []
    if chosen.created_from is not None:
        conditions.append(T.created_at >= chosen.created_from)
    if chosen.created_before is not None:
        conditions.append(T.created_at < chosen.created_before)
    return conditions


def active_range(chosen: SessionFilter) -> list[ColumnElement[bool]]:
    """Return the conditions on active_minute that follow from those of a filter on active_at."""
    conditions: list[ColumnElement[bool]] = []
    if chosen.active_from is not None:
        conditions.append(T.active_minute >= _minute(chosen.active_from))
    if chosen.active_before is not None:
        conditions.append(T.active_minute <= _minute(chosen.active_before))
    return conditions


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
