"""Listings of sessions: their orders, and statements whose cost does not grow with the project.

Listings by activity are ordered by (active_minute, active_at, key). The index lacks active_at,
because each append would change it. To sort the sessions of a minute, a page has to read all of
them, which takes long if an import or a nightly job touched 100,000 of them. The sessions of such a
crowded minute are therefore ordered by key alone, as in the index.

A filter may have a range of times that the index of the listing's order does not contain. An
example is a listing of the sessions that were created on one day, ordered by activity. With the
index of the order, a page would have to read all sessions that precede the wanted ones. If the
range has few sessions, they are therefore found with the index of the range, and then sorted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Integer,
    Select,
    Subquery,
    and_,
    bindparam,
    case,
    false,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.types import TypeEngine

from sessiond_server.sessions.store.filters import (
    ACTIVE_RANGE,
    CREATED_RANGE,
    SessionFilter,
    T,
    conditions_of,
    filter_conditions,
    filter_values,
)

MAX_SORTED = 1000
"""A minute with more active sessions than this is crowded: its sessions are ordered by key."""

MAX_TEXTS = 500
"""Maximum number of texts of statements that are kept, one for each combination of conditions."""

MAX_IN_RANGE = 3000
"""A range of times with at most this many sessions is read whole, and its sessions are sorted."""

_DIALECT = PGDialect_psycopg()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Listing:
    """Filter and order of a listing.

    Attributes:
        filter: selects the sessions.
        order: active_desc, active_asc, created_desc, created_asc or id_asc.
        limit: maximum number of rows.
        after: sort key of the last row of the previous page; None for the first page.
    """

    filter: SessionFilter
    order: str
    limit: int
    after: tuple[Any, ...] | None = None


class ActivityKey(NamedTuple):
    """Sort key of a session in a listing by activity.

    Attributes:
        minute: active_minute of the session.
        at: active_at of the session; None if the listing sorts this minute by key alone.
        key: key of the session.
    """

    minute: int
    at: datetime | None
    key: UUID


@dataclass(frozen=True, slots=True)
class _Shape:
    """The order and the names of the values, which determine the text of a listing's statement.

    Attributes:
        listing: one of the listings whose statement has this text.
    """

    order: str
    names: frozenset[str]
    listing: Listing = field(compare=False)
    columns: Sequence[ColumnElement[Any]] = field(compare=False)


def list_text(
    listing: Listing, columns: Sequence[ColumnElement[Any]]
) -> tuple[str, dict[str, Any]]:
    """Return the SQL text of `list_statement`, with placeholders, and its values.

    It takes SQLAlchemy milliseconds to assemble and compile such a statement. So the text of each
    combination of conditions is kept. All calls must pass the same `columns`, because a kept text
    has the columns of the call for which it was assembled.
    """
    values = listing_values(listing)
    text, constants = _text(_Shape(listing.order, frozenset(values), listing, columns))
    return text, constants | values


@lru_cache(maxsize=MAX_TEXTS)
def _text(shape: _Shape) -> tuple[str, dict[str, Any]]:
    compiled = list_statement(shape.listing, shape.columns).compile(dialect=_DIALECT)
    constants = {name: v for name, v in compiled.params.items() if name not in shape.names}
    return str(compiled), constants


def listing_values(listing: Listing) -> dict[str, Any]:
    """Return the values of a listing's statement, by the names of its parameters."""
    values = filter_values(listing.filter) | {
        "limit": listing.limit,
        "crowded": MAX_SORTED + 1,
        "too_many": MAX_IN_RANGE + 1,
    }
    names = _AFTER[listing.order]
    after = dict(zip(names, listing.after or (), strict=False))
    return values | {name: value for name, value in after.items() if value is not None}


def list_statement(listing: Listing, columns: Sequence[ColumnElement[Any]]) -> Select[Any]:
    """Return the statement of a page.

    Args:
        listing: the listing. It returns at most `limit` rows.
        columns: the columns to return. Listings by activity also return `is_crowded`: whether the
            row's minute is sorted by key alone.
    """
    if listing.order in ("active_desc", "active_asc"):
        return _by_activity(listing, columns)
    conditions = filter_conditions(listing.filter)
    order, keyset = _ORDERS[listing.order]
    if listing.after is not None:
        conditions.append(keyset(*_after_binds(listing)))
    page = select(*columns, false().label("is_crowded")).order_by(*order).limit(_limit(listing))
    are_few = _are_few(listing)
    if are_few is None:
        return page.where(*conditions)
    keys = page.with_only_columns(T.key).where(*conditions)
    chosen = _either(are_few, keys, keys.order_by(None).order_by(*_UNINDEXED[listing.order]))
    return page.join_from(chosen, T.key.table, T.key == chosen.c.key)


def _are_few(listing: Listing) -> ColumnElement[bool] | None:
    """Return the condition that the filter's range of times has few sessions.

    Returns:
        The condition; None if there is no range of times, or only one of the time by which the
        listing is ordered. The index that serves the order then also serves the range.
    """
    chosen = listing.filter
    column: ColumnElement[Any]
    by = listing.order.partition("_")[0]
    if by != "created" and (bounds := conditions_of(chosen, *CREATED_RANGE)):
        column = T.created_at
    elif by != "active" and (bounds := conditions_of(chosen, *ACTIVE_RANGE)):
        column = T.active_minute
    else:
        return None
    too_many = bindparam("too_many", MAX_IN_RANGE + 1, Integer)
    some = (
        select(T.key)
        .where(*conditions_of(chosen, "project_id"), *bounds)
        .order_by(column, T.key)
        .limit(too_many)
        .cte("some")
        .prefix_with("MATERIALIZED")
    )
    return select(func.count()).select_from(some).scalar_subquery() < too_many


def _either(are_few: ColumnElement[bool], walk: Select[Any], sort: Select[Any]) -> Subquery:
    """Return the rows of one of two statements; PostgreSQL does not execute the other one.

    Args:
        are_few: whether the filter's range of times has few sessions.
        walk: reads the sessions in the order of an index, if there are many.
        sort: reads and sorts the sessions of the range, if there are few.
    """
    either = (walk.where(~are_few), sort.where(are_few))
    return union_all(*(select(one.subquery()) for one in either)).subquery("either")


_ORDERS: dict[str, Any] = {
    "created_desc": (
        (T.created_at.desc(), T.key.desc()),
        lambda at, key: tuple_(T.created_at, T.key) < tuple_(at, key),
    ),
    "created_asc": (
        (T.created_at.asc(), T.key.asc()),
        lambda at, key: tuple_(T.created_at, T.key) > tuple_(at, key),
    ),
    "id_asc": ((T.session_id.asc(),), lambda session_id: T.session_id > session_id),
}


# The parameters with the sort key of the last row of the previous page, and their types.
_AFTER_ACTIVITY: dict[str, TypeEngine[Any]] = {
    "after_minute": T.active_minute.type,
    "after_at": T.active_at.type,
    "after_key": T.key.type,
}
_AFTER_CREATION: dict[str, TypeEngine[Any]] = {
    "after_at": T.created_at.type,
    "after_key": T.key.type,
}
_AFTER: dict[str, dict[str, TypeEngine[Any]]] = {
    "active_desc": _AFTER_ACTIVITY,
    "active_asc": _AFTER_ACTIVITY,
    "created_desc": _AFTER_CREATION,
    "created_asc": _AFTER_CREATION,
    "id_asc": {"after_id": T.session_id.type},
}


def _limit(listing: Listing) -> BindParameter[int]:
    return bindparam("limit", listing.limit, Integer)


def _after_binds(listing: Listing) -> list[BindParameter[Any] | None]:
    pairs = zip(_AFTER[listing.order].items(), listing.after or (), strict=True)
    return [
        None if value is None else bindparam(name, value, type_) for (name, type_), value in pairs
    ]


# The orders of _ORDERS, by expressions that no index contains, so that PostgreSQL sorts the
# sessions.
_NOTHING: ColumnElement[timedelta] = literal_column("interval '0'")
_UNINDEXED: dict[str, Any] = {
    "created_desc": ((T.created_at + _NOTHING).desc(), T.key.desc()),
    "created_asc": ((T.created_at + _NOTHING).asc(), T.key.asc()),
    "id_asc": (T.session_id.concat("").asc(),),
}


class _After(NamedTuple):
    """The parameters of an ActivityKey."""

    minute: Any
    at: Any
    key: Any


def _by_activity(listing: Listing, columns: Sequence[ColumnElement[Any]]) -> Select[Any]:
    # The page reads its rows in the order of the index, (active_minute, key). All minutes but the
    # last are then complete, so their rows can be sorted. The last one, the edge, is either read
    # whole, or left in the order of the index.
    is_descending = listing.order == "active_desc"
    limit = _limit(listing)
    after = None if listing.after is None else _After(*_after_binds(listing))
    conditions = filter_conditions(listing.filter)
    if after is not None:
        conditions += _after(after, is_descending)

    def ordered(*sort: ColumnElement[Any]) -> list[ColumnElement[Any]]:
        return [column.desc() if is_descending else column.asc() for column in sort]

    first = (
        select(T.key, T.active_minute, T.active_at)
        .where(*conditions)
        .order_by(*ordered(T.active_minute, T.key))
        .limit(limit)
    )
    are_few = _are_few(listing)
    if are_few is not None:
        # No index has the sum active_minute + 0, so PostgreSQL sorts the sessions.
        sort = first.order_by(None).order_by(*ordered(T.active_minute + 0, T.key))
        first = select(_either(are_few, first, sort))
    head = first.cte("head").prefix_with("MATERIALIZED")
    last = (func.min if is_descending else func.max)(head.c.active_minute)
    found = select(last.label("minute")).having(func.count() == limit).subquery("found")
    edge = select(found.c.minute, _is_crowded(listing.filter, found.c.minute, after)).cte("edge")
    edge = edge.prefix_with("MATERIALIZED")
    crowded = select(edge.c.minute).where(edge.c.is_crowded).scalar_subquery()
    sorted_ = select(edge.c.minute).where(~edge.c.is_crowded).scalar_subquery()
    place: ColumnElement[bool] = func.coalesce(head.c.active_minute == crowded, false())
    if after is not None and after.at is None:
        # Earlier pages returned rows of this minute by key, so its other rows follow by key as
        # well.
        place = or_(place, head.c.active_minute == after.minute)
    chosen = union_all(
        select(head.c.key, head.c.active_minute, head.c.active_at, place.label("is_crowded")).where(
            func.coalesce(head.c.active_minute != sorted_, true())
        ),
        select(T.key, T.active_minute, T.active_at, false()).where(
            *conditions, T.active_minute == sorted_
        ),
    ).subquery("chosen")
    position = case((chosen.c.is_crowded, null()), else_=chosen.c.active_at)
    picked = (
        select(chosen.c.key, chosen.c.is_crowded, chosen.c.active_minute, position.label("at"))
        .order_by(*ordered(chosen.c.active_minute, position, chosen.c.key))
        .limit(limit)
        .subquery("picked")
    )
    return (
        select(*columns, picked.c.is_crowded)
        .join_from(picked, T.key.table, T.key == picked.c.key)
        .order_by(*ordered(picked.c.active_minute, picked.c.at, picked.c.key))
    )


def _after(after: _After, is_descending: bool) -> list[ColumnElement[bool]]:
    # The index can use the first condition; the comparison of rows makes the result exact.
    minute, at, key = after
    here: Any = tuple_(T.active_minute, T.key) if at is None else None
    there: Any = tuple_(minute, key) if at is None else None
    if at is not None:
        here = tuple_(T.active_minute, T.active_at, T.key)
        there = tuple_(minute, at, key)
    if is_descending:
        return [T.active_minute <= minute, here < there]
    return [T.active_minute >= minute, here > there]


def _is_crowded(
    chosen: SessionFilter, minute: ColumnElement[int], after: _After | None
) -> ColumnElement[bool]:
    # Counts the sessions of the minute in the index that orders the listing, and ignores conditions
    # that this index cannot check. If only few sessions matched those conditions, counting the
    # matches would read the whole minute.
    other = T.key.table.alias("other")
    conditions = [other.c.active_minute == minute]
    values = filter_values(chosen)
    for name in ("project_id", "user_name"):
        if name in values:
            column = other.c[name]
            conditions.append(column == bindparam(name, values[name], column.type))
    limit = bindparam("crowded", MAX_SORTED + 1, Integer)
    some = select(literal(1)).where(*conditions).limit(limit).correlate_except(other)
    count = select(func.count()).select_from(some.lateral("some")).scalar_subquery()
    crowded = count >= limit
    if after is not None and after.at is None:
        crowded = or_(crowded, minute == after.minute)
    elif after is not None:
        crowded = and_(crowded, minute != after.minute)
    return crowded.label("is_crowded")
