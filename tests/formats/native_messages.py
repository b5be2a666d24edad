"""Native messages, and the requests that dialects make from them."""

import json
from typing import Any

import pytest

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_GEMINI,
    FORMAT_OPENAI,
    Message,
)

from .dialects import DIALECTS
from .histories import as_message

JSON = dict[str, Any]


USER = {"role": "user", "content": "q"}


PROMPT = {"role": "user", "content": "go on"}


SIGNED = {"type": "thinking", "thinking": "secret thought", "signature": "c2ln"}


everywhere = pytest.mark.parametrize("name", DIALECTS)


def calls(*ids: str, name: str = "look_up", content: str | None = None) -> JSON:
    """Return an answer that calls a tool once for each id."""
    function = {"name": name, "arguments": "{}"}
    made = [{"id": call_id, "type": "function", "function": function} for call_id in ids]
    return {"role": "assistant", "content": content, "tool_calls": made}


def tool(call_id: str, content: Any = "found") -> JSON:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def blocks(role: str, *content: JSON) -> JSON:
    return {"role": role, "content": [*content]}


def use(call_id: str, **given: Any) -> JSON:
    return {"type": "tool_use", "id": call_id, "name": "look_up", "input": given}


def result(call_id: str, content: Any = "found") -> JSON:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content}


def history(*values: JSON | Message) -> list[Message]:
    """Return a stored history; the shape of each value tells its format."""
    messages = []
    for seq, value in enumerate(values, 1):
        message = value if isinstance(value, Message) else as_message(value, format_of(value))
        message.seq = seq
        messages.append(message)
    return messages


def format_of(value: JSON) -> int:
    """Return the format that a value's shape indicates."""
    if "parts" in value:
        return FORMAT_GEMINI
    content = value.get("content")
    kinds = {"tool_use", "tool_result", "thinking", "redacted_thinking", "server_tool_use", "image"}
    if isinstance(content, list) and any(
        isinstance(block, dict) and block.get("type") in kinds for block in content
    ):
        return FORMAT_ANTHROPIC
    return FORMAT_OPENAI


def text_of(name: str, *values: JSON | Message) -> str:
    """Make a request from a history, let the API check it, and return it as text."""
    _, body = DIALECTS[name].send(history(*values))
    return json.dumps(body, ensure_ascii=False)
