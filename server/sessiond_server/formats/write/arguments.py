"""Arguments of calls, as the objects that some APIs require."""

from typing import Any

from sessiond_server.formats.parsing import has_duplicate_keys, parse
from sessiond_server.formats.pieces import JSON, Call
from sessiond_server.formats.wire import has_lone_surrogates, stored_or_new


def object_of(call: Call, *, max_depth: int = 200) -> tuple[JSON, bool]:
    """Return the arguments of a call as an object, with their exact spelling.

    Args:
        call: the call as read.
        max_depth: maximum depth that the API accepts; deeper arguments are sent as text.

    Returns:
        The object, and whether it is a wrapper around the text that the model wrote.
    """
    if call.is_custom:
        return {"input": call.arguments}, False
    try:
        value: Any = parse(call.arguments or "{}")
    except (ValueError, RecursionError):
        return {"arguments": call.arguments}, True
    if is_deeper(value, max_depth) or has_duplicate_keys(call.arguments, value):
        return {"arguments": call.arguments}, True
    if isinstance(value, dict):
        raw = "" if has_lone_surrogates(call.arguments) else call.arguments or "{}"
        return stored_or_new(value, value, raw), False
    return {"arguments": value}, True


def is_deeper(value: Any, depth: int) -> bool:
    """Whether objects and lists are nested more than `depth` levels deep in a JSON value."""
    level = [value]
    for _ in range(depth + 1):
        level = [
            item
            for outer in level
            if isinstance(outer, dict | list)
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True
