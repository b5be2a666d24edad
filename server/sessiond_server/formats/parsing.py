"""Parsing of JSON that was validated when it was stored."""

import json
from typing import Any

import orjson


def parse(text: str) -> Any:
    """Parse JSON, also with what orjson refuses: half surrogates and integers beyond 64 bits.

    Raises:
        ValueError: if it is not JSON.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)
