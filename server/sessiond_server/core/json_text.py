"""Parses the JSON text that callers send, with the same limits for all fields."""

import json
from typing import Any

import orjson

from sessiond_server.core.errors import Fault, invalid
from sessiond_server.core.limits import MAX_JSON_LEVELS, MAX_OPTIONS_BYTES


def parse_json(encoded: bytes, field: str) -> Any:
    """Parse JSON.

    Args:
        encoded: UTF-8.
        field: path of the field, for faults.

    Raises:
        Fault: INVALID_JSON, also for JSON that many parsers refuse: more than MAX_JSON_LEVELS, or a
            number beyond the range of a double.
    """
    try:
        value = orjson.loads(encoded)
    except orjson.JSONDecodeError as first:
        value = parse_odd_json(encoded, field, first)
    if is_too_deep(value, encoded):
        raise too_deep(field)
    return value


def parse_odd_json(encoded: bytes, field: str, first: ValueError) -> Any:
    """Parse JSON that orjson refuses, though the grammar allows it and models send it.

    Examples are half of a surrogate pair in an escape, and an integer of 400 digits.

    Args:
        encoded: UTF-8.
        field: path of the field, for faults.
        first: orjson's error.

    Raises:
        Fault: INVALID_JSON.
    """
    try:
        # Decode first, because json.loads() would guess the encoding of bytes.
        return json.loads(encoded.decode(), parse_constant=_refuse_number, parse_float=_finite)
    except RecursionError:
        raise too_deep(field) from None
    except _RefusedNumber as e:
        raise invalid(
            field, f"has {e}, which is not a number in JSON", reason="INVALID_JSON"
        ) from None
    except ValueError:
        raise invalid(field, f"is not JSON: {first}", reason="INVALID_JSON") from None


def is_too_deep(value: Any, encoded: bytes) -> bool:
    """Whether parsed JSON is nested deeper than MAX_JSON_LEVELS.

    Args:
        value: the JSON.
        encoded: its text. If the text has too few brackets for such nesting, the value is not
            searched.
    """
    if encoded.count(b"[") + encoded.count(b"{") <= MAX_JSON_LEVELS:
        return False
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_JSON_LEVELS):
        level = [
            item
            for container in level
            for item in (container.values() if isinstance(container, dict) else container)
            if isinstance(item, dict | list)
        ]
    return bool(level)


def too_deep(field: str) -> Fault:
    """Return the fault of JSON that is nested too deep."""
    return invalid(field, f"is nested deeper than {MAX_JSON_LEVELS} levels", reason="INVALID_JSON")


def parse_options(text: str, field: str) -> dict[str, Any]:
    """Parse fields of a provider's request: a JSON object, whose keys keep their order.

    Args:
        text: JSON text. "" means {}.
        field: path of the field, for faults.

    Raises:
        Fault: INVALID_FIELD if it takes more than MAX_OPTIONS_BYTES; INVALID_JSON if it is no
            object.
    """
    if not text:
        return {}
    encoded = text.encode()
    if len(encoded) > MAX_OPTIONS_BYTES:
        raise invalid(field, f"takes {len(encoded)} bytes; at most {MAX_OPTIONS_BYTES} are allowed")
    value = parse_json(encoded, field)
    if not isinstance(value, dict):
        raise invalid(
            field, 'is JSON, but not an object such as {"temperature": 0}', reason="INVALID_JSON"
        )
    return value


class _RefusedNumber(ValueError):
    pass


def _refuse_number(text: str) -> float:
    raise _RefusedNumber(text[:64])


def _finite(text: str) -> float:
    number = float(text)
    return number if abs(number) != float("inf") else _refuse_number(text)
