"""Pages of listings: they end when they have enough rows, or enough bytes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Select

from sessiond_server.core.limits import MAX_PAGE_BYTES
from sessiond_server.db.pool import Database

# The window functions have no ORDER BY, so they see the rows in the order of the listing.
_PAGE = """
SELECT * FROM (
    SELECT listed.*, count(*) OVER () AS listed_count, row_number() OVER () AS listed_place,
        sum(octet_length(listed::text)) OVER (ROWS UNBOUNDED PRECEDING)
            - octet_length(listed::text) AS bytes_before
    FROM ({listing}) AS listed
) AS page
WHERE bytes_before < {max_bytes} AND listed_place <= {size} ORDER BY listed_place"""


Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class RowPage(Generic[Row]):
    """The rows of a page, and whether more follow."""

    rows: list[Row]
    has_more: bool


async def page_of(
    database: Database,
    listing: str | Select[Any],
    parameters: Mapping[str, Any] | None,
    size: int,
    row_type: Callable[..., Row],
) -> RowPage[Row]:
    """Return one page of a listing.

    The page ends with the row that brings it to MAX_PAGE_BYTES, so it has at least one row.

    Args:
        database: the database.
        listing: selects at least one row more than the page has, in order.
        parameters: the values of the statement; None if it contains them.
        size: maximum number of rows.
        row_type: makes a row of the columns.
    """
    if not isinstance(listing, str):
        listing, parameters = database.compiled(listing)
    statement = _PAGE.format(listing=listing, max_bytes=MAX_PAGE_BYTES, size=size)
    rows = await database.rows(statement, parameters)
    has_more = bool(rows) and rows[0]["listed_count"] > len(rows)
    for row in rows:
        for name in ("listed_count", "listed_place", "bytes_before"):
            del row[name]
    return RowPage([row_type(**row) for row in rows], has_more)
