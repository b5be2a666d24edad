"""The format of a provider's message, determined by its shape."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from sessiond.errors import invalid_field

_OPENAI_KEYS = (
    "tool_calls",
    "tool_call_id",
    "function_call",
    "refusal",
    "audio",
    "reasoning_content",
)
_OPENAI_ROLES = ("developer", "tool", "function")
_ROLES = ("user", "assistant", "system", *_OPENAI_ROLES)
_OPENAI_PARTS = (
    "image_url",
    "input_audio",
    "file",
    "refusal",
    "input_text",
    "output_text",
    "input_image",
    "input_file",
    "summary_text",
    "reasoning_text",
    "computer_screenshot",
)
_ANTHROPIC_BLOCKS = (
    "tool_use",
    "tool_result",
    "redacted_thinking",
    "server_tool_use",
    "mcp_tool_use",
    "search_result",
    "container_upload",
    "compaction",
    "tool_addition",
    "tool_removal",
    "mcp_tool_listing",
    "fallback",
)
# Blocks that callers sometimes pass instead of a message. Responses items never have these types.
_BARE_BLOCKS = ("text", "image", "document", "tool_use", "tool_result", "thinking")
# Requests to other providers also have these keys, so they decide only if nothing else does.
_ANTHROPIC_HINTS = ("cache_control", "citations")


def format_of(message: Mapping[str, Any], path: str) -> str | None:
    """Return the format of a message.

    Args:
        message: the provider's message.
        path: the message's path in the call, for the error.

    Returns:
        "openai", "anthropic" or "gemini". None = the message is the same in several formats.

    Raises:
        InvalidField: if the message has marks of several formats.
    """
    role, content = message.get("role"), message.get("content")
    # A message with a role and without a list of parts can only be OpenAI's. Nearly all are like
    # this.
    if (
        (content is None or type(content) is str)
        and role in _ROLES
        and "parts" not in message
        and "stop_reason" not in message
    ):
        return "openai"
    marks = dict(_marks(message))
    if len(marks) > 1:
        found = " and ".join(f"{mark} ({name})" for name, mark in sorted(marks.items()))
        raise invalid_field(
            "format",
            f'is needed for {path}, which has {found}; give "openai", "anthropic" or "gemini"',
        )
    return next(iter(marks), None) or next(_hints(message), None)


def is_plain(message: Mapping[str, Any]) -> bool:
    """Return whether a message is only a text by the user, the assistant or the system."""
    return (
        message.keys() == {"role", "content"}
        and isinstance(message["content"], str)
        and message["role"] in ("user", "assistant", "system")
    )


def parsed(text: str | bytes) -> Mapping[str, Any]:
    """Parse the JSON text of a message. Empty = the server will refuse the text."""
    try:
        value = orjson.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _marks(message: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the format of each mark that only one format has, with a description of the mark."""
    role, kind = message.get("role"), message.get("type")
    if isinstance(message.get("parts"), list | tuple | Mapping):
        yield "gemini", "parts"
    elif role == "model":
        yield "gemini", 'the role "model"'
    elif role in _OPENAI_ROLES:
        yield "openai", f'the role "{role}"'
    elif role is None and isinstance(kind, str):
        yield ("anthropic" if kind in _BARE_BLOCKS else "openai"), f'the type "{kind}"'
    for key in _OPENAI_KEYS:
        if message.get(key) is not None:
            yield "openai", key
    if message.get("stop_reason") is not None:
        yield "anthropic", "stop_reason"
    for part in _parts(message):
        if name := _format_of_part(part):
            yield name, f'a part of type "{part["type"]}"'


def _format_of_part(part: Mapping[str, Any]) -> str | None:
    kind = part.get("type")
    if not isinstance(kind, str):
        return None
    if kind in _OPENAI_PARTS:
        return "openai"
    if kind == "thinking":
        # In Mistral's answers, which have OpenAI's format, "thinking" is a list.
        return "anthropic" if isinstance(part.get("thinking"), str) else "openai"
    is_file = kind in ("image", "document") and isinstance(part.get("source"), Mapping)
    is_block = is_file or kind in _ANTHROPIC_BLOCKS or kind.endswith("_tool_result")
    return "anthropic" if is_block else None


def _hints(message: Mapping[str, Any]) -> Iterator[str]:
    for part in _parts(message):
        if any(part.get(key) for key in _ANTHROPIC_HINTS):
            yield "anthropic"


def _parts(message: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    content = message.get("content")
    for part in content if isinstance(content, list | tuple) else ():
        if isinstance(part, Mapping):
            yield part
