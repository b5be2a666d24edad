"""Parsing of JSON that was validated when it was stored."""

import json
import re
from contextlib import suppress
from math import isfinite
from typing import Any

import orjson

_LONG_NUMBER = re.compile(r"\d{19}")
_KEY_END = re.compile(r'(?<!\\)(?:\\\\)*"\s*:')


def parse(text: str) -> Any:
    """Parse JSON exactly: orjson refuses half surrogates, and rounds integers beyond 64 bits.

    Raises:
        ValueError: if the text is not JSON, or has a number that no JSON can carry: NaN, an
            infinity, or one beyond the range of a double.
        RecursionError: if it is nested too deeply.
    """
    if not _LONG_NUMBER.search(text):
        with suppress(orjson.JSONDecodeError):
            return orjson.loads(text)
    return json.loads(text, parse_constant=_refuse, parse_float=_finite)


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
