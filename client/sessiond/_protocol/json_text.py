"""JSON: strict encoding of mappings as compact UTF-8, and exact decoding."""

import json
import math
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any
from uuid import UUID

import orjson

from sessiond.errors import invalid_field

MAX_LEVELS = 200
_AS_JSON = 'give base64, as model_dump(mode="json") of an SDK\'s object does'
_AS_DICT = 'give its dict: model_dump(mode="json", exclude_none=True)'

_dumps = orjson.dumps
# A subclass of dict may override items(), which orjson would ignore. So the standard library
# encodes subclasses.
_OPTIONS = (
    orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)


def encode(value: Mapping[str, Any]) -> bytes:
    """Encode a mapping, with UUIDs as strings and enum members as their values.

    Returns:
        Compact JSON in UTF-8.

    Raises:
        TypeError: a value has a type that JSON lacks.
        ValueError: a number is NaN or infinite, or a value contains itself.
        RecursionError: the value is nested too deeply.
    """
    if not isinstance(value, dict):
        value = dict(value)
    try:
        encoded = _dumps(value, None, _OPTIONS)
    except TypeError:
        return _encode_slowly(value)
    # orjson writes NaN and infinity as null, so a result that contains null is encoded again by the
    # strict encoder.
    if _is_plain(value):
        return encoded
    return _encode_slowly(value) if b"null" in encoded else encoded


def _encode_slowly(value: dict[str, Any]) -> bytes:
    """Encode with the standard library.

    The standard library also accepts integers beyond 64 bits and keys that are not strings, and its
    errors are more precise.
    """
    try:
        return _encode_text(value).encode()
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8 form, but its escape is valid JSON.
        return _encode_ascii(value).encode()


def _simple(value: object) -> object:
    match value:
        case UUID():
            return str(value)
        case Enum():
            return value.value
        case _:
            raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


# json.dumps() with arguments would create an encoder for each call.
_encode_text = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_simple
).encode
_encode_ascii = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=_simple).encode


# A whole number beyond 64 bits is a run of at least 19 digits. Most messages have no such run. A
# look at every 19th byte usually proves that, because one of these bytes would be in the run.
_LONG = 19
_DIGIT = re.compile(rb"[0-9]")
_DIGITS_AS_ZEROS = re.sub(rb"[0-9]", b"0", re.sub(rb"[^0-9]", b" ", bytes(range(256))))


def decode(text: bytes) -> Any:
    """Decode JSON in UTF-8, with the result of json.loads() in about half the time.

    Raises:
        ValueError: the text is not JSON.
        RecursionError: the value is nested too deeply for Python.
    """
    try:
        value = orjson.loads(text)
    except ValueError:  # orjson also refuses lone surrogates, and numbers beyond a double's range
        return json.loads(text.decode())
    if type(value) is dict and _is_plain(value):
        return value
    # orjson reads whole numbers beyond 64 bits as floating-point numbers.
    if _DIGIT.search(text[::_LONG]) and b"0" * _LONG in text.translate(_DIGITS_AS_ZEROS):
        return json.loads(text.decode())
    return value


def _is_plain(message: Mapping[str, Any]) -> bool:
    """Whether a message consists of just a role and a text, as most messages do."""
    return len(message) == 2 and type(message.get("role")) is type(message.get("content")) is str


def encode_or_refuse(value: Mapping[str, Any], path: str) -> bytes:
    """Encode a mapping as encode() does.

    Args:
        value: the mapping.
        path: the path of the mapping in the call.

    Raises:
        InvalidField: with the path of the first value that JSON cannot represent.
    """
    try:
        return encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        found = _fault_in(value, path, ()) or (path, f"cannot be written as JSON: {error}")
        raise invalid_field(*found) from error


def _fault_in(value: object, path: str, around: tuple[int, ...]) -> tuple[str, str] | None:
    match value:
        case Mapping() | list() | tuple():
            if id(value) in around:
                return path, "contains itself"
            if len(around) >= MAX_LEVELS:
                return f"{path[:80]}...", f"is nested deeper than {MAX_LEVELS} levels"
            is_object = isinstance(value, Mapping)
            items = enumerate(value) if isinstance(value, list | tuple) else value.items()
            for key, item in items:
                if not isinstance(key, str | int | float | bool | None):
                    return path, f"has a key of type {type(key).__name__}; keys must be strings"
                inner = f"{path}.{key}" if is_object else f"{path}[{key}]"
                if fault := _fault_in(item, inner, (*around, id(value))):
                    return fault
            return None
        case bytes() | bytearray() | memoryview():
            return path, f"is {type(value).__name__}, which JSON does not have; {_AS_JSON}"
        case float() if not math.isfinite(value):
            return path, f"is {value}, which JSON cannot represent"
        case str() | int() | float() | None | UUID() | Enum():
            return None
        case _ if hasattr(value, "model_dump"):
            return path, f"is an object of type {type(value).__name__}; {_AS_DICT}"
        case _:
            return path, f"is of type {type(value).__name__}, which JSON does not have"
