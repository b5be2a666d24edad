"""Arguments of calls, as the objects that some APIs require."""

from typing import Any

from sessiond_server.formats.parsing import has_duplicate_keys, has_huge_number, is_deeper, parse
from sessiond_server.formats.pieces import JSON, Call
from sessiond_server.formats.report import ChangeKind
from sessiond_server.formats.wire import has_lone_surrogates, stored_or_new

__all__ = ["MAX_DEPTH", "is_deeper", "object_of", "stored_object"]

# Stored messages have the same maximum depth.
MAX_DEPTH = 200


def object_of(call: Call, *, max_depth: int = MAX_DEPTH) -> tuple[JSON, ChangeKind | None]:
    """Return the arguments of a call as an object, with their exact spelling.

    Some arguments are sent as the text that the model wrote, because parsers read them differently
    (a key twice) or refuse them (NaN, 1e999, 2,000 levels).

    Args:
        call: the call as read.
        max_depth: maximum depth that the API accepts.

    Returns:
        The object, and its difference from the model's text. None = no difference.
    """
    if call.is_custom:
        return {"input": call.arguments}, None
    text = call.arguments or "{}"
    try:
        value: Any = parse(text)
    except (ValueError, RecursionError):
        return {"arguments": text}, ChangeKind.ARGUMENTS_WRAPPED
    if is_deeper(value, max_depth) or has_huge_number(text) or has_duplicate_keys(text, value):
        return {"arguments": text}, ChangeKind.ARGUMENTS_WRAPPED
    if not isinstance(value, dict):
        return {"arguments": value}, ChangeKind.ARGUMENTS_WRAPPED
    if has_lone_surrogates(text):
        return value, ChangeKind.TEXT_REPAIRED
    return stored_or_new(value, value, text), None


def stored_object(call: Call, stored: Any) -> JSON | None:
    """Return the arguments in a stored message if all parsers read them, else None.

    Args:
        call: the call as read.
        stored: the parsed arguments.
    """
    return stored if isinstance(stored, dict) and not has_huge_number(call.arguments) else None
