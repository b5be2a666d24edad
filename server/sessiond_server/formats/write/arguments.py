"""Arguments of calls, as the objects that some APIs require."""

from typing import Any

from sessiond_server.formats.parsing import has_huge_number, is_deeper, parse_strictly
from sessiond_server.formats.pieces import JSON, Call
from sessiond_server.formats.report import ChangeKind
from sessiond_server.formats.wire import has_lone_surrogates, stored_or_new

__all__ = ["MAX_DEPTH", "is_deeper", "is_sendable", "object_of"]

# The depth that stored messages may have, too.
MAX_DEPTH = 200


def object_of(call: Call, *, max_depth: int = MAX_DEPTH) -> tuple[JSON, ChangeKind | None]:
    """Return the arguments of a call as an object, with their exact spelling.

    Arguments that parsers read differently (a key twice), or refuse (NaN, 1e999, 2,000 levels), are
    sent as the text that the model wrote.

    Args:
        call: the call as read.
        max_depth: maximum depth that the API accepts.

    Returns:
        The object, and how it differs from what the model wrote. None = it is the same.
    """
    if call.is_custom:
        return {"input": call.arguments}, None
    text = call.arguments or "{}"
    try:
        value: Any = parse_strictly(text)
    except ValueError:
        return {"arguments": text}, ChangeKind.ARGUMENTS_WRAPPED
    if is_deeper(value, max_depth):
        return {"arguments": text}, ChangeKind.ARGUMENTS_WRAPPED
    if not isinstance(value, dict):
        return {"arguments": value}, ChangeKind.ARGUMENTS_WRAPPED
    if has_lone_surrogates(text):
        return value, ChangeKind.TEXT_REPAIRED
    return stored_or_new(value, value, text), None


def is_sendable(stored: Any, raw: str) -> bool:
    """Whether the arguments in a stored message are an object that all parsers read.

    Args:
        stored: the parsed arguments.
        raw: the JSON of the message.
    """
    return isinstance(stored, dict) and not has_huge_number(raw)
