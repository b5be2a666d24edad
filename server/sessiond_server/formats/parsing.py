"""Parsing and writing of JSON values of messages."""

import json
import re
from contextlib import suppress
from math import isfinite
from typing import Any

import orjson

_LONG_NUMBER = re.compile(r"\d{19}")
# An integer that may be beyond the range of a double, which most parsers refuse.
_HUGE_NUMBER = re.compile(r"\d{309}")
_KEY_END = re.compile(r'(?<!\\)(?:\\\\)*"\s*:')


def parse(text: str) -> Any:
    """Parse JSON exactly: orjson refuses half surrogates, and rounds integers beyond 64 bits.

    Raises:
        ValueError: if the text is not JSON, or has a number that no JSON can carry: NaN, an
            infinity, or one beyond the range of a double.
        RecursionError: if the JSON is nested too deeply.
    """
    if not _LONG_NUMBER.search(text):
        with suppress(orjson.JSONDecodeError):
            return orjson.loads(text)
    return json.loads(text, parse_constant=_refuse, parse_float=_finite)


def dumps(value: Any) -> str:
    """Return the compact JSON of a parsed value, even of a value that orjson refuses."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def is_deeper(value: Any, levels: int) -> bool:
    """Whether objects and lists are nested more than `levels` levels deep in a JSON value."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(levels):
        level = [
            item
            for outer in level
            for item in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(item, dict | list)
        ]
    return bool(level)


def has_huge_number(text: str) -> bool:
    """Whether JSON text may contain an integer beyond the range of a double."""
    return _HUGE_NUMBER.search(text) is not None


def has_duplicate_keys(text: str, value: Any) -> bool:
    """Whether an object in JSON text has a key twice; readers disagree about which one counts.

    Args:
        text: the JSON.
        value: the same JSON, parsed.
    """
    # Each key ends with a quotation mark and a colon. Strings contain that sequence rarely, so the
    # slow search runs rarely.
    if len(_KEY_END.findall(text)) <= _count_keys(value):
        return False
    has_duplicates = False

    def check(pairs: list[tuple[str, Any]]) -> None:
        nonlocal has_duplicates
        has_duplicates |= len({key for key, _ in pairs}) < len(pairs)

    json.loads(text, object_pairs_hook=check)
    return has_duplicates


def _count_keys(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(_count_keys, value.values()))
    return sum(map(_count_keys, value)) if isinstance(value, list) else 0


def _refuse(text: str) -> float:
    raise ValueError(f"{text[:64]} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if isfinite(number) else _refuse(text)
