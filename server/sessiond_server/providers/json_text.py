"""JSON of answers, and surrogates that UTF-8 cannot encode."""

import json
from typing import Any


def dumps(message: dict[str, Any]) -> str:
    """Serialise an answer.

    Raises:
        ValueError: for values that JSON does not have, such as an infinite number.
    """
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        # A lone surrogate, which only an escape can express.
        text = json.dumps(message, separators=(",", ":"), allow_nan=False)
    return text


def replace_surrogates(value: Any) -> Any:
    """Replace lone surrogates in all strings of a JSON value.

    Models do write them, and the SDKs cannot send them.
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            # Two halves of a pair become the character that they encode.
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value
    if isinstance(value, dict):
        return {replace_surrogates(key): replace_surrogates(item) for key, item in value.items()}
    if isinstance(value, list):
        return [replace_surrogates(item) for item in value]
    return value


def require_text(value: Any) -> str:
    """Return the value.

    Raises:
        TypeError: if it is not a string.
    """
    if not isinstance(value, str):
        raise TypeError
    return value
