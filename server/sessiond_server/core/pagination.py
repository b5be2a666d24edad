"""Pages of listings, and the opaque tokens that continue a listing or a stream.

Tokens are URL-safe and unsigned. They grant no access: every call is authorised and checked again.
An altered token causes an error or leads to another position.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import orjson

from sessiond_server.core.errors import invalid
from sessiond_server.core.limits import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE

VERSION = 1

Row = TypeVar("Row")
Parser = Callable[[Any], Any]
"""Parses one value of a token; raises one of UNREADABLE if the value is invalid."""

UNREADABLE = (ValueError, TypeError, AttributeError, OverflowError)


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """One page of a listing; the last page has an empty next_page_token."""

    items: list[Row]
    next_page_token: str


class Paging:
    """The page that a caller requests.

    Attributes:
        size: rows on the page.
        after: position of the last row of the previous page; None for the first page.
    """

    def __init__(
        self,
        page_size: int,
        page_token: str,
        query: Sequence[object],
        *position: Parser,
        defaults: tuple[Any, ...] = (),
    ) -> None:
        """Check the caller's page_size and page_token.

        Args:
            page_size: number of rows. 0 means DEFAULT_PAGE_SIZE; larger numbers than MAX_PAGE_SIZE
                are reduced to it.
            page_token: next_page_token of the previous page; "" for the first page.
            query: everything that selects and orders the rows. A token is valid only for the query
                that it was created for.
            position: parsers for the values in a row's position.
            defaults: the last values of a position, for a token that lacks them.

        Raises:
            Fault: INVALID_FIELD if page_size is negative; INVALID_PAGE_TOKEN if page_token is
                malformed or belongs to another query.
        """
        if page_size < 0:
            raise invalid("page_size", "is negative")
        self.size = min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        self._fingerprint = fingerprint(*query)
        self.after: tuple[Any, ...] | None = None
        if page_token:
            self.after = decode_token(
                page_token,
                self._fingerprint,
                *position,
                field="page_token",
                reason="INVALID_PAGE_TOKEN",
                defaults=defaults,
            )

    def page(
        self,
        rows: list[Row],
        position: Callable[[Row], Sequence[Any]],
        *,
        has_more: bool | None = None,
    ) -> Page[Row]:
        """Return one page of the rows.

        Args:
            rows: the rows in order. If there are more than `size`, there is a next page.
            position: returns the position of a row; the next page starts after it.
            has_more: whether there is a next page; None to derive it from the number of rows.
        """
        if has_more is None:
            has_more = len(rows) > self.size
        rows = rows[: self.size]
        return Page(rows, encode_token(self._fingerprint, *position(rows[-1])) if has_more else "")


def fingerprint(*query: object) -> str:
    """Return a hash of a query, the same in every process: 12 hexadecimal digits."""
    # repr() would not do, because the order of a protobuf map's keys differs between processes.
    encoded = orjson.dumps(query, default=str, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(encoded, digest_size=6).hexdigest()


def encode_token(fingerprint: str, *values: Any) -> str:
    """Return a token that holds a query's fingerprint and numbers, strings, UUIDs or times."""
    encoded = orjson.dumps([VERSION, fingerprint, *values])
    return base64.urlsafe_b64encode(encoded).rstrip(b"=").decode()


def decode_token(
    token: str,
    fingerprint: str,
    *parsers: Parser,
    field: str,
    reason: str,
    defaults: tuple[Any, ...] = (),
) -> tuple[Any, ...]:
    """Return the values of a token, one for each parser.

    Args:
        token: the token.
        fingerprint: fingerprint of the current query.
        parsers: one parser for each value.
        field: path of the token in the request, for faults.
        reason: reason of the fault for an invalid token.
        defaults: the last values of a position, for a token that lacks them.

    Raises:
        Fault: `reason` if the token is malformed or belongs to another query.
    """
    try:
        encoded = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        version, owner, *values = orjson.loads(encoded)
        if version != VERSION:
            raise ValueError(version)
    except (binascii.Error, *UNREADABLE):
        raise invalid(field, "is not a token of this server", reason=reason) from None
    if owner != fingerprint:
        raise invalid(
            field,
            "belongs to a request with other fields; send those of that request",
            reason=reason,
        )
    values += defaults[len(values) - len(parsers) + len(defaults) :]
    try:
        return tuple(parse(value) for parse, value in zip(parsers, values, strict=True))
    except UNREADABLE:
        raise invalid(field, "is not a token of this server", reason=reason) from None


def int4(value: Any) -> int:
    """Parse a number in the range of PostgreSQL's integer."""
    return _within(value, -(2**31), 2**31 - 1)


def seq(value: Any) -> int:
    """Parse a seq, or 0 for the position before the first message."""
    return _within(value, 0, 2**63 - 1)


def time(value: Any) -> datetime:
    """Parse an ISO 8601 time that has a time zone."""
    found = datetime.fromisoformat(value)
    if found.tzinfo is None:
        raise ValueError(value)
    return found.astimezone(UTC)


def time_or_none(value: Any) -> datetime | None:
    """Parse an ISO 8601 time that has a time zone, or null."""
    return None if value is None else time(value)


def text(value: Any) -> str:
    """Parse a string that PostgreSQL can store."""
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(value)
    value.encode()  # raises for a lone surrogate
    return value


def _within(value: Any, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(value)
    return value
