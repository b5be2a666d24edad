"""Opaque tokens: where a listing or a stream goes on. URL-safe, and never a right to anything: every call is checked anew."""

import base64
import binascii
import hashlib
from datetime import UTC, datetime
from typing import Any

import orjson

from sessiond_server.core.errors import invalid

VERSION = 1


def fingerprint(*parts: object) -> str:
    """Of the request's other fields, so that a token does not go on with another question."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=6).hexdigest()


def encode(question: str, *values: Any) -> str:
    """Values that JSON can hold, as a token that belongs to a question (see fingerprint)."""
    return base64.urlsafe_b64encode(orjson.dumps([VERSION, question, *values])).rstrip(b"=").decode()


def decode(token: str, question: str, *, field: str, reason: str) -> list[Any]:
    """The values of a token. Raises Fault with the reason for what is no token, or one of another question."""
    try:
        values = orjson.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        values = None
    if not isinstance(values, list) or len(values) < 2 or values[0] != VERSION:
        raise invalid(field, "is not a token of this server", reason=reason)
    if values[1] != question:
        raise invalid(field, "belongs to a request with other fields; send the same ones", reason=reason)
    return values[2:]


# What the readers below, and UUID, raise for what is not theirs. Tokens are not signed: whoever alters one gets an error, or another place.
UNREADABLE = (ValueError, TypeError, AttributeError, OverflowError)


def int4(value: Any) -> int:
    """A number that PostgreSQL's integer holds."""
    if not isinstance(value, int) or not -(2**31) <= value < 2**31:
        raise ValueError(value)
    return value


def time(value: Any) -> datetime:
    """A time with its zone, as isoformat() writes it."""
    found = datetime.fromisoformat(value)
    if found.tzinfo is None:
        raise ValueError(value)
    return found.astimezone(UTC)


def text(value: Any) -> str:
    """A text that PostgreSQL's text holds."""
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(value)
    value.encode()  # half a surrogate pair is no text
    return value
