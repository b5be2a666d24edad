"""The plain text of messages, and the JSON form of typed parts. Pure functions."""

import base64
from collections.abc import Iterable
from typing import Any

from sessiond.v1 import message_pb2

# Types of text parts in Chat Completions and Anthropic, and in Responses (input and output).
_TEXT_TYPES = {"text", "input_text", "output_text"}


def text_of_blob(blob: dict[str, Any], format: int) -> str:
    """Return the text of a provider's message: its text parts joined.

    Reasoning and tool calls are not text. Empty = the message has no text.
    """
    if format == message_pb2.FORMAT_GEMINI:
        parts = blob.get("parts")
        if not isinstance(parts, list):
            return ""
        return _joined(
            part.get("text") for part in parts if isinstance(part, dict) and not part.get("thought")
        )
    content = blob.get("content")
    if content is None and blob.get("type") == "function_call_output":
        content = blob.get("output")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return _joined(
        part.get("text")
        for part in content
        if isinstance(part, dict) and part.get("type") in _TEXT_TYPES
    )


def text_of_parts(parts: Iterable[message_pb2.Part]) -> str:
    """Return the text parts, joined."""
    return "".join(part.text for part in parts)


def parts_json(parts: Iterable[message_pb2.Part]) -> list[dict[str, Any]]:
    """Return typed parts as JSON values. Each has a "type"; bytes are base64."""
    return [_part_json(part) for part in parts]


def _joined(texts: Iterable[Any]) -> str:
    return "".join(text for text in texts if isinstance(text, str))


def _part_json(part: message_pb2.Part) -> dict[str, Any]:
    kind = part.WhichOneof("kind")
    match kind:
        case "text" | "data":
            return {"type": kind, kind: getattr(part, kind)}
        case "image" | "audio" | "file":
            return {"type": kind, **_blob_json(getattr(part, kind))}
        case "tool_call":
            call = part.tool_call
            return {
                "type": "tool_call",
                "call_id": call.call_id,
                "name": call.name,
                "arguments_json": call.arguments_json,
            }
        case "tool_result":
            result = part.tool_result
            return {
                "type": "tool_result",
                "call_id": result.call_id,
                "parts": parts_json(result.parts),
                "is_error": result.is_error,
            }
        case "reasoning":
            reasoning = part.reasoning
            return {
                "type": "reasoning",
                "text": reasoning.text,
                "signature": _base64(reasoning.signature),
            }
        case _:
            return {"type": "unknown"}


def _blob_json(blob: message_pb2.Blob) -> dict[str, Any]:
    source = blob.WhichOneof("source") or "inline"
    value = _base64(blob.inline) if source == "inline" else getattr(blob, source)
    return {"media_type": blob.media_type, "name": blob.name, source: value}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
