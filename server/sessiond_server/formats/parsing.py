"""Parsing of JSON that was validated when it was stored."""

import json
import re
from contextlib import suppress
from typing import Any

import orjson

_LONG_NUMBER = re.compile(r"\d{19}")


def parse(text: str) -> Any:
    """Parse JSON, also with half surrogates and integers beyond 64 bits, which orjson rounds.

    Raises:
        ValueError: if it is not JSON.
    """
    if not _LONG_NUMBER.search(text):
        with suppress(orjson.JSONDecodeError):
            return orjson.loads(text)
    return json.loads(text)
