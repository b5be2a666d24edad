"""Parsing of JSON that was validated when it was stored."""

import json
import re
from contextlib import suppress
from typing import Any

import orjson

_LONG_NUMBER = re.compile(r"\d{19}")


def parse(text: str) -> Any:
    """Parse JSON exactly: orjson refuses half surrogates, and rounds integers beyond 64 bits.

    Raises:
        ValueError: if the text is not JSON.
    """
    if not _LONG_NUMBER.search(text):
        with suppress(orjson.JSONDecodeError):
            return orjson.loads(text)
    return json.loads(text)
