"""The schemas of messages in each provider's format, as far as readers rely on them.

The schemas are strict about the types of the fields that are read, and lenient about everything
else: unknown keys, null instead of a missing field, and parts and items of types that are newer
than this server.
"""

from collections.abc import Callable
from typing import Any

from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC, FORMAT_GEMINI, FORMAT_OPENAI
from sessiond_server.core.errors import Fault, invalid
from sessiond_server.messages.schemas import anthropic, gemini, openai
from sessiond_server.messages.schemas.checks import SchemaError
from sessiond_server.messages.schemas.other_formats import advice

CHECKS: dict[int, Callable[[dict[str, Any]], None]] = {
    FORMAT_OPENAI: openai.check,
    FORMAT_ANTHROPIC: anthropic.check,
    FORMAT_GEMINI: gemini.check,
}
"""The check of a message with a known role, by the message's format. Each raises SchemaError."""


def fault_of(error: SchemaError, value: dict[str, Any], format_name: str, field: str) -> Fault:
    """Return the fault for a message that does not match its format.

    Args:
        error: the error that the check raised.
        value: the parsed JSON.
        format_name: name of the format.
        field: path of the JSON in the request.
    """
    return invalid(f"{field}{error.path}", error.description + advice(value, format_name))
