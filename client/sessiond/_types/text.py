"""The plain text of messages, and the JSON form of typed parts. Pure functions."""

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Any

from sessiond._types.program_texts import text_of_program
from sessiond.v1 import message_pb2

# Types of text parts in Chat Completions and Anthropic, and in Responses (input and output).
_TEXT_TYPES = ("text", "input_text", "output_text")


def text_of_blob(blob: dict[str, Any], format: int, format_name: str = "") -> str:
    """Return the text of a message: its text parts joined.

    Reasoning and tool calls are not text. The text of a tool's message is that of the result.
    """
    if format == message_pb2.FORMAT_OTHER:
        return text_of_program(blob, format_name, text_of_blob)
    if format == message_pb2.FORMAT_GEMINI:
        return "".join(_gemini_texts(blob))
    if format == message_pb2.FORMAT_OPENAI and blob.get("role") is None and "type" in blob:
        return _text_of_item(blob)
    return _text_of(blob.get("content")) or _string(blob.get("refusal"))


def text_of_parts(parts: Iterable[message_pb2.Part], *, is_result: bool = False) -> str:
    """Return the joined text parts; for a tool's message, the text of its results."""
    return "".join(
        text_of_parts(part.tool_result.parts) if is_result and not part.text else part.text
        for part in parts
    )


def _text_of_item(item: dict[str, Any]) -> str:
    """Return the text of an item of the Responses API that has no role."""
    kind = item.get("type")
    if kind == "program_output":
        return _text_of(item.get("result"))
    if kind == "code_interpreter_call":
        return _text_of(item.get("outputs"))
    is_result = isinstance(kind, str) and kind.endswith("_output")
    return _text_of(item.get("output")) if is_result or kind == "mcp_call" else ""


def _text_of(content: Any) -> str:
    match content:
        case str():
            return content
        case list():
            return "".join(_text_of_part(part) for part in content)
        case _:
            return _text_of_part(content)


def _text_of_part(part: Any) -> str:
    if not isinstance(part, dict):
        return ""
    kind = part.get("type")
    if kind in _TEXT_TYPES:
        return _string(part.get("text"))
    if kind == "refusal":
        return _string(part.get("refusal"))
    # The output of a shell or a code interpreter.
    return "".join(_string(part.get(key)) for key in ("stdout", "stderr", "logs"))


def _gemini_texts(blob: dict[str, Any]) -> Iterator[str]:
    parts = blob.get("parts")
    is_result = blob.get("role") in ("tool", "function")
    for part in parts if isinstance(parts, list) else [parts]:
        if not isinstance(part, dict) or part.get("thought"):
            continue
        yield _string(part.get("text"))
        result = part.get("functionResponse", part.get("function_response"))
        if is_result and isinstance(result, dict) and (value := result.get("response")) is not None:
            output = value.get("output", value.get("result")) if isinstance(value, dict) else value
            yield output if isinstance(output, str) else json.dumps(value, ensure_ascii=False)


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def parts_json(parts: Iterable[message_pb2.Part]) -> list[dict[str, Any]]:
    """Return typed parts as JSON values. Each has a "type"; bytes are base64."""
    return [_part_json(part) for part in parts]


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
