"""Parsing and writing of JSON values of messages."""

import json
import re
from contextlib import suppress
from typing import Any, NoReturn

import orjson

_LONG_NUMBER = re.compile(r"\d{19}")
# An integer beyond the range of a double, which most parsers refuse.
_HUGE_NUMBER = re.compile(r"\d{309}")


class UnusualJson(ValueError):
    """JSON that parsers read differently, or that some of them refuse."""


def parse(text: str) -> Any:
    """Parse JSON exactly: orjson refuses half surrogates, and rounds integers beyond 64 bits.

    Raises:
        ValueError: if the text is not JSON, has a number beyond the range of a double, or is nested
            too deeply for the parser.
    """
    if not _LONG_NUMBER.search(text):
        with suppress(orjson.JSONDecodeError):
            return orjson.loads(text)
    return _loads(text)


def parse_strictly(text: str) -> Any:
    """Parse JSON that is to become a part of other JSON.

    Raises:
        UnusualJson: if an object has a key twice, or an integer is beyond the range of a double.
        ValueError: as parse() does.
    """
    if _HUGE_NUMBER.search(text):
        raise UnusualJson("an integer is beyond the range of a double")
    value = parse(text)
    if isinstance(value, dict | list):
        _loads(text, object_pairs_hook=_unique)
    return value


def dumps(value: Any) -> str:
    """Return the compact JSON of a parsed value, also of what orjson refuses."""
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


def _loads(text: str, **hooks: Any) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite, **hooks)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text[:64]} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if abs(number) != float("inf") else _refuse(text)


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise UnusualJson("an object has a key twice")
