"""Makes a message from the text of an answer that was cut off, and adds a note for models."""

import json

import orjson

from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC, FORMAT_GEMINI, FORMAT_OPENAI, Format
from sessiond_server.formats.pieces import JSON

NOTE = "[This answer was cut off.]"


def incomplete_answer(message_format: Format.ValueType, text: str, max_bytes: int) -> str:
    """Return an assistant's message with the text of an answer, as JSON text in a format.

    The end of a text that does not fit into max_bytes is left out.
    """
    while True:
        encoded = orjson.dumps(_answer(message_format, text))
        if len(encoded) <= max_bytes or not text:
            return encoded.decode()
        text = text[: max(len(text) * max_bytes // len(encoded) - 64, 0)]


def _answer(message_format: Format.ValueType, text: str) -> JSON:
    value: JSON
    if message_format == FORMAT_GEMINI:
        value = {"role": "model", "parts": [{"text": text}]}
    elif message_format == FORMAT_ANTHROPIC:
        value = {"role": "assistant", "content": [{"type": "text", "text": text}]}
    else:
        value = {"role": "assistant", "content": text}
    return value


def with_note(value: JSON, message_format: int) -> JSON:
    """Return an assistant's message that ends with a note that it was cut off.

    A message that cannot contain text is returned unchanged.
    """
    if message_format == FORMAT_GEMINI:
        parts = value.get("parts")
        return {**value, "parts": [*(parts if isinstance(parts, list) else ()), {"text": NOTE}]}
    is_item = message_format == FORMAT_OPENAI and "type" in value
    if is_item and value.get("type") != "message":
        return value
    content = value.get("content")
    if isinstance(content, list):
        block = {"type": "output_text" if is_item else "text", "text": NOTE}
        return {**value, "content": [*content, block | ({"annotations": []} if is_item else {})]}
    return {**value, "content": f"{content}\n\n{NOTE}" if isinstance(content, str) else NOTE}


def dumps(value: JSON) -> str:
    """Return a message as JSON text, even if it contains halves of surrogate pairs."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
