"""Dicts as JSON: compact UTF-8, and nothing that is not JSON."""

import json
from collections.abc import Mapping
from enum import Enum
from typing import Any
from uuid import UUID

import orjson

_dumps = orjson.dumps
# Of what is a dict by its class alone, only the standard library asks for the items.
_OPTIONS = (
    orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)


def encode(value: Mapping[str, Any]) -> bytes:
    """The JSON of a mapping, with UUIDs as text and members of enums as their values.

    Raises: TypeError, ValueError, RecursionError for what JSON cannot say: other objects, NaN and infinity, what refers to itself.
    """
    if not isinstance(value, dict):
        value = dict(value)
    try:
        encoded = _dumps(value, None, _OPTIONS)
    except TypeError:
        return _encode_slowly(value)
    # It writes NaN and infinity as null, for want of anything better. The library that refuses them is asked only where there is a null;
    # and nearly all messages are two texts, which need not be searched for one.
    if len(value) == 2 and type(value.get("role")) is type(value.get("content")) is str:
        return encoded
    return _encode_slowly(value) if b"null" in encoded else encoded


def _encode_slowly(value: dict[str, Any]) -> bytes:
    """As the standard library has it, which also knows integers beyond 64 bits and keys that are no strings, and says what is wrong."""
    try:
        return _encode_text(value).encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair is no text; its escape is JSON all the same.
        return _encode_ascii(value).encode()


def _simple(value: object) -> object:
    match value:
        case UUID():
            return str(value)
        case Enum():
            return value.value
        case _:
            raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


# Made once: json.dumps with arguments makes an encoder for each call.
_encode_text = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_simple
).encode
_encode_ascii = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=_simple).encode
