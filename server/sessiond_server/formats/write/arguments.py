"""Arguments of calls as the objects that some APIs require."""

from typing import Any

from sessiond_server.formats.parsing import parse
from sessiond_server.formats.pieces import JSON, Call
from sessiond_server.formats.wire import stored_or_new


def object_of(call: Call) -> tuple[JSON, bool]:
    """Return the arguments of a call as an object, exactly as they are spelled.

    Returns:
        The object, and whether it wraps what the model wrote.
    """
    if call.is_custom:
        return {"input": call.arguments}, False
    try:
        value: Any = parse(call.arguments or "{}")
    except ValueError:
        return {"arguments": call.arguments}, True
    if isinstance(value, dict):
        return stored_or_new(value, value, call.arguments or "{}"), False
    return {"arguments": value}, True
