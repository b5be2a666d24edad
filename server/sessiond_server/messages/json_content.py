"""JSON content: parsing, and what each provider's message format says of roles and text."""

import json
from collections.abc import Iterable
from typing import Any

import orjson

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


def parse_json(encoded: bytes, field: str) -> Any:
    """Parse JSON.

    Args:
        encoded: UTF-8.
        field: path of the field, for faults.

    Raises:
        Fault: INVALID_JSON.
    """
    try:
        return orjson.loads(encoded)
    except orjson.JSONDecodeError as first:
        # orjson refuses some JSON that the grammar allows and that models do send, such as half of
        # a surrogate pair (\ud83d) in an escape.
        try:
            # The library would guess the encoding of bytes.
            return json.loads(encoded.decode(), parse_constant=_refuse_constant)
        except RecursionError:
            raise invalid(field, "is nested too deeply", reason="INVALID_JSON") from None
        except ValueError:
            raise invalid(field, f"is not JSON: {first}", reason="INVALID_JSON") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


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
        if format_name == "openai" and isinstance(kind := value.get("type"), str):
            # Items of the Responses API that are not messages have a type instead: the model makes
            # a call, the tool its output.
            return ROLE_TOOL if kind.endswith(("_output", "_response")) else ROLE_ASSISTANT
        if format_name == "gemini" and "parts" in value:
            return ROLE_USER  # the API's own default
        raise invalid(f"{field}.role", f"is missing; {_one_of(roles)}", reason="UNKNOWN_ROLE")
    raise invalid(
        f"{field}.role",
        f"is {str(role)[:64]!r}, which {format_name} does not know; {_one_of(roles)}",
        reason="UNKNOWN_ROLE",
    )


def _one_of(roles: Iterable[str]) -> str:
    return "one of " + ", ".join(roles)


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
