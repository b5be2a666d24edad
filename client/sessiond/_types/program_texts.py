"""The text of messages that agents' programs and frameworks write. Pure functions."""

from collections.abc import Callable, Iterator
from typing import Any

from sessiond.v1 import message_pb2

_Json = dict[str, Any]
TextOf = Callable[[_Json, int], str]
"""Returns the text of a provider's message. Its arguments: message, number of the Format."""


def text_of_program(blob: _Json, format_name: str, text_of: TextOf) -> str:
    """Return the text of a message of FORMAT_OTHER. "" = no text, or an unknown format.

    A note of the program has a text if people are meant to read it, such as a session's summary.

    Args:
        blob: the message.
        format_name: the program that wrote it.
        text_of: returns the text of a provider's message that the message contains.
    """
    match format_name:
        case "claude-code":
            return _claude_code(blob, text_of)
        case "codex":
            return _codex(blob, text_of)
        case "openai-agents":
            return text_of(blob, message_pb2.FORMAT_OPENAI)
        case "pydantic-ai":
            return "".join(_pydantic_ai(blob))
        case "strands":
            return "".join(_strands(blob))
        case "langchain":
            return _langchain(blob)
        case "openai-export":
            return "".join(_openai_export(blob))
        case "sharegpt":
            return _string(blob.get("value", blob.get("text", blob.get("content"))))
        case "bad-line":
            return _string(blob.get("text"))
        case _:
            return ""


def _claude_code(blob: _Json, text_of: TextOf) -> str:
    message, attachment = _object(blob, "message"), _object(blob, "attachment")
    if message:
        return text_of(message, message_pb2.FORMAT_ANTHROPIC) or "".join(_results_of(message))
    if attachment:
        return text_of({"content": attachment.get("prompt")}, message_pb2.FORMAT_ANTHROPIC)
    keys = ("summary", "customTitle", "aiTitle", "content")
    return next((text for key in keys if (text := _string(blob.get(key)))), "")


def _results_of(message: _Json) -> Iterator[str]:
    for block in _objects(message.get("content")):
        if block.get("type") == "tool_result":
            yield _plain(block.get("content"))


def _codex(blob: _Json, text_of: TextOf) -> str:
    payload = blob.get("payload")
    if not isinstance(payload, dict):
        return text_of(blob, message_pb2.FORMAT_OPENAI)
    if blob.get("type") == "response_item":
        return text_of(payload, message_pb2.FORMAT_OPENAI)
    return _string(payload.get("message"))


def _pydantic_ai(blob: _Json) -> Iterator[str]:
    if "kind" not in blob:
        blob = _object(blob, "message")
    for part in _objects(blob.get("parts")):
        content = part.get("content")
        if part.get("part_kind") == "speech":
            yield _string(part.get("transcript"))
        elif part.get("part_kind") != "thinking":
            yield _plain(content)


def _strands(blob: _Json) -> Iterator[str]:
    said = _object(blob, "redact_message") or _object(blob, "message") or blob
    for block in _objects(said.get("content")):
        yield _string(block.get("text"))
        yield "".join(
            _string(one.get("text"))
            for one in _objects(_object(block, "toolResult").get("content"))
        )


def _langchain(blob: _Json) -> str:
    data = _object(blob, "data") or _object(blob, "kwargs") or blob
    return _plain(data.get("content"))


def _openai_export(blob: _Json) -> Iterator[str]:
    message = blob if "author" in blob else _object(blob, "message")
    content = _object(message, "content")
    yield _string(content.get("text"))
    parts = content.get("parts")
    for part in parts if isinstance(parts, list) else ():
        yield _string(part.get("text") if isinstance(part, dict) else part)


def _plain(content: object) -> str:
    """Return a text, or the texts in a list of parts."""
    if isinstance(content, list):
        return "".join(
            _string(part.get("text", part.get("content")) if isinstance(part, dict) else part)
            for part in content
        )
    return _string(content)


def _object(value: _Json, key: str) -> _Json:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _objects(value: object) -> list[_Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""
