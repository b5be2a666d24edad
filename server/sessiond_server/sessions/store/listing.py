"""Listings of sessions: their orders, and statements whose cost does not grow with the project.

Listings by activity are ordered by (active_minute, active_at, key). The index lacks active_at,
because each append would change it. To sort the sessions of a minute, a page has to read all of
them, which takes long if an import or a nightly job touched 100,000 of them. The sessions of such a
crowded minute are therefore ordered by key alone, as in the index.

A filter may have a range of times that the index of the order does not contain, such as all
sessions created on one day, the most recently active first. To reach them, a page would read all
sessions before them in that order. If the range has few sessions, they are found by the index of
the range, and sorted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Select,
    Subquery,
    and_,
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

from sessiond_server.sessions.store.filters import (
    SessionFilter,
    T,
    active_range,
    created_range,
    filter_conditions,
)

MAX_SORTED = 1000
"""A minute with more active sessions than this is crowded: its sessions are ordered by key."""

MAX_IN_RANGE = 3000
"""A range of times with at most this many sessions is read whole, and its sessions are sorted."""


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
        minute: its active_minute.
        at: its active_at; None if the listing sorts this minute by key alone.
        key: its key.
    """

    minute: int
    at: datetime | None
    key: UUID


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
        conditions.append(keyset(*listing.after))
    page = select(*columns, false().label("is_crowded")).order_by(*order).limit(listing.limit)
    are_few = _are_few(listing)
    if are_few is None:
        return page.where(*conditions)
    keys = page.with_only_columns(T.key).where(*conditions)
    chosen = _either(are_few, keys, keys.order_by(None).order_by(*_UNINDEXED[listing.order]))
    return page.join_from(chosen, T.key.table, T.key == chosen.c.key)


def _are_few(listing: Listing) -> ColumnElement[bool] | None:
    """Return the condition that the filter's range of times has few sessions.

    Returns:
        None if there is no range, or if the index of the order contains it.
    """
    chosen = listing.filter
    column: ColumnElement[Any]
    by = listing.order.partition("_")[0]
    if by != "created" and (bounds := created_range(chosen)):
        column = T.created_at
    elif by != "active" and (bounds := active_range(chosen)):
        column = T.active_minute
    else:
        return None
    some = (
        select(T.key)
        .where(T.project_id == chosen.project_id, *bounds)
        .order_by(column, T.key)
        .limit(MAX_IN_RANGE + 1)
        .cte("some")
        .prefix_with("MATERIALIZED")
    )
    return select(func.count()).select_from(some).scalar_subquery() <= MAX_IN_RANGE


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


# The same orders, which no index has.
_NOTHING: ColumnElement[timedelta] = literal_column("interval '0'")
_UNINDEXED: dict[str, Any] = {
    "created_desc": ((T.created_at + _NOTHING).desc(), T.key.desc()),
    "created_asc": ((T.created_at + _NOTHING).asc(), T.key.asc()),
    "id_asc": (T.session_id.concat("").asc(),),
}


def _by_activity(listing: Listing, columns: Sequence[ColumnElement[Any]]) -> Select[Any]:
    # The page reads its rows in the order of the index, (active_minute, key). All minutes but the
    # last are then complete, so their rows can be sorted. The last one, the edge, is either read
    # whole, or left in the order of the index.
    is_descending = listing.order == "active_desc"
    after = None if listing.after is None else ActivityKey(*listing.after)
    conditions = filter_conditions(listing.filter)
    if after is not None:
        conditions += _after(after, is_descending)

    def ordered(*sort: ColumnElement[Any]) -> list[ColumnElement[Any]]:
        return [column.desc() if is_descending else column.asc() for column in sort]

    first = (
        select(T.key, T.active_minute, T.active_at)
        .where(*conditions)
        .order_by(*ordered(T.active_minute, T.key))
        .limit(listing.limit)
    )
    are_few = _are_few(listing)
    if are_few is not None:
        # No index has the sum, so the sessions are sorted.
        sort = first.order_by(None).order_by(*ordered(T.active_minute + 0, T.key))
        first = select(_either(are_few, first, sort))
    head = first.cte("head").prefix_with("MATERIALIZED")
    last = (func.min if is_descending else func.max)(head.c.active_minute)
    found = select(last.label("minute")).having(func.count() == listing.limit).subquery("found")
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
        .limit(listing.limit)
        .subquery("picked")
    )
    return (
        select(*columns, picked.c.is_crowded)
        .join_from(picked, T.key.table, T.key == picked.c.key)
        .order_by(*ordered(picked.c.active_minute, picked.c.at, picked.c.key))
    )


def _after(after: ActivityKey, is_descending: bool) -> list[ColumnElement[bool]]:
    # The index can use the first condition; the comparison of rows makes the result exact.
    minute, at, key = after
    here: Any = tuple_(T.active_minute, T.key) if at is None else None
    there: Any = tuple_(literal(minute), literal(key)) if at is None else None
    if at is not None:
        here = tuple_(T.active_minute, T.active_at, T.key)
        there = tuple_(literal(minute), literal(at), literal(key))
    if is_descending:
        return [T.active_minute <= minute, here < there]
    return [T.active_minute >= minute, here > there]


def _is_crowded(
    chosen: SessionFilter, minute: ColumnElement[int], after: ActivityKey | None
) -> ColumnElement[bool]:
    # Counts the sessions of the minute in the index that orders the listing, and ignores conditions
    # that this index cannot check. If only few sessions matched those conditions, counting the
    # matches would read the whole minute.
    other = T.key.table.alias("other")
    conditions = [other.c.project_id == chosen.project_id, other.c.active_minute == minute]
    if chosen.user_name:
        conditions.append(other.c.user_name == chosen.user_name)
    some = select(literal(1)).where(*conditions).limit(MAX_SORTED + 1).correlate_except(other)
    count = select(func.count()).select_from(some.lateral("some")).scalar_subquery()
    crowded = count > MAX_SORTED
    if after is not None and after.at is None:
        crowded = or_(crowded, minute == after.minute)
    elif after is not None:
        crowded = and_(crowded, minute != after.minute)
    return crowded.label("is_crowded")
