"""JSON content: the roles and the text in each provider's message format."""

from typing import Any

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_GEMINI,
    FORMAT_OPENAI,
    ROLE_ASSISTANT,
    ROLE_DEVELOPER,
    ROLE_SYSTEM,
    ROLE_TOOL,
    ROLE_USER,
    Role,
)
from sessiond_server.core.errors import invalid
from sessiond_server.messages.schemas import openai
from sessiond_server.messages.schemas.other_formats import advice

Roles = dict[str, Role.ValueType]

_OPENAI: Roles = {
    "system": ROLE_SYSTEM,
    "developer": ROLE_DEVELOPER,
    "user": ROLE_USER,
    "assistant": ROLE_ASSISTANT,
    "tool": ROLE_TOOL,
    "function": ROLE_TOOL,
}
# The API's message list has no role "system", but its users keep the system prompt among the
# messages.
_ANTHROPIC: Roles = {"system": ROLE_SYSTEM, "user": ROLE_USER, "assistant": ROLE_ASSISTANT}
_GEMINI: Roles = {
    "system": ROLE_SYSTEM,
    "user": ROLE_USER,
    "model": ROLE_ASSISTANT,
    "function": ROLE_TOOL,
    "tool": ROLE_TOOL,
}
FORMATS: dict[int, tuple[str, Roles]] = {
    FORMAT_OPENAI: ("openai", _OPENAI),
    FORMAT_ANTHROPIC: ("anthropic", _ANTHROPIC),
    FORMAT_GEMINI: ("gemini", _GEMINI),
}
"""The name and the roles of each format."""


def role_of(value: Any, format_name: str, roles: Roles, field: str) -> Role.ValueType:
    """Return the role of a provider's message.

    Args:
        value: the parsed JSON.
        format_name: name of its format.
        roles: roles of its format.
        field: path of the field, for faults.

    Raises:
        Fault: INVALID_JSON if the value is not an object; UNKNOWN_ROLE.
    """
    if not isinstance(value, dict):
        raise invalid(field, "is JSON, but not an object", reason="INVALID_JSON")
    role = value.get("role")
    if isinstance(role, str) and (known := roles.get(role)):
        return known
    if role is None:
        if format_name == "openai" and openai.is_item(value):
            # Items of the Responses API that are not messages have a type instead. Calls come from
            # the model, and their outputs from the tool.
            return ROLE_TOOL if value["type"].endswith(("_output", "_response")) else ROLE_ASSISTANT
        if format_name == "gemini" and "parts" in value and "kind" not in value:
            return ROLE_USER  # the API's own default
        wrong = "is missing"
    else:
        wrong = f"is {str(role)[:64]!r}, which {format_name} does not know"
    raise invalid(
        f"{field}.role",
        f"{wrong}; one of {', '.join(roles)}{advice(value, format_name)}",
        reason="UNKNOWN_ROLE",
    )


def user_text(value: dict[str, Any], format_name: str) -> str:
    """Return the text of a user's message, for a session's summary."""
    content = value.get("parts" if format_name == "gemini" else "content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(
            part["text"]
            for part in content[:16]
            if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return ""
