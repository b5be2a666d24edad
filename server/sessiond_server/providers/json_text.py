"""JSON of answers, and of requests that UTF-8 cannot spell."""

import json
from typing import Any


def dumps(message: dict[str, Any]) -> str:
    """The JSON of an answer.

    Raises: ValueError for what JSON has no word for, such as an infinite number.
    """
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair, which JSON can spell only as an escape.
        text = json.dumps(message, separators=(",", ":"), allow_nan=False)
    return text


def replace_surrogates(value: Any) -> Any:
    """The same with what UTF-8 cannot spell, halves of surrogate pairs, replaced: models do write them, and the SDKs cannot send them."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            # Two halves that belong together become what they stand for.
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value
    if isinstance(value, dict):
        return {replace_surrogates(key): replace_surrogates(item) for key, item in value.items()}
    if isinstance(value, list):
        return [replace_surrogates(item) for item in value]
    return value
