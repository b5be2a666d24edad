"""The JSON of answers."""

import json
from typing import Any

# A message with more than 200 levels cannot be stored, and arguments begin some levels deep in it.
MAX_ARGUMENT_LEVELS = 190


def dumps(message: dict[str, Any]) -> str:
    """Serialise an answer.

    Raises:
        ValueError: for values that JSON cannot represent, such as infinity.
    """
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        # The answer has a lone surrogate, which JSON can express only as an escape.
        text = json.dumps(message, separators=(",", ":"), allow_nan=False)
    return text


def parse_arguments(text: str) -> Any:
    """Parse the arguments of a tool call.

    Returns:
        The arguments; or {"arguments": TEXT} if they are nested too deeply to be stored.

    Raises:
        ValueError: if the text is not JSON.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        return {"arguments": text}
    return {"arguments": text} if is_deep(value) else value


def is_deep(value: Any) -> bool:
    """Whether a JSON value is nested deeper than MAX_ARGUMENT_LEVELS."""
    level = [value]
    for _ in range(MAX_ARGUMENT_LEVELS):
        level = [
            item
            for value in level
            if isinstance(value, dict | list)
            for item in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return False
    return True


def require_text(value: Any) -> str:
    """Return a value that must be a string.

    Raises:
        TypeError: if the value is not a string.
    """
    if not isinstance(value, str):
        raise TypeError
    return value
