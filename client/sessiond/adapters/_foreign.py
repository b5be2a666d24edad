"""What messages of any program say, for the adapters of the others.

An adapter keeps the messages of its own framework as they are. When another program has continued a
session, such as a turn of the server or another framework, the adapter gives its framework what the
messages say: text, calls of tools and their results. Files and reasoning are left out, since only
the program that stored them knows how to send them.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from sessiond._types.message import Message

_TEXTS = frozenset({"text", "input_text", "output_text", "refusal"})


@dataclass(frozen=True, slots=True)
class Text:
    """Text that a person, a program or a model wrote."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool; the arguments are JSON text."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a call. name = "" if the message does not have it."""

    call_id: str
    name: str
    text: str


Piece: TypeAlias = Text | Call | Result
_Json: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Said:
    """What a message says.

    Attributes:
        role: "user", "assistant", "system" or "tool".
        pieces: the content in order; none if there is nothing that another program can use.
    """

    role: str
    pieces: list[Piece]


def said_in(message: Message) -> Said:
    """Return what a message says, whatever its format."""
    value = message.blob
    if message.format_name == "strands":
        value = value.get("redact_message") or value.get("message") or value
        pieces = [piece for block in _objects(value.get("content")) for piece in _strands(block)]
    elif message.format_name == "pydantic-ai":
        pieces = [piece for part in _objects(value.get("parts")) for piece in _pydantic_ai(part)]
        value = {"role": "assistant" if value.get("kind") == "response" else "user"}
    elif message.format is None:
        pieces = [piece for part in _objects(value.get("parts")) for piece in _typed(part)]
    elif message.format == "gemini":
        pieces = [piece for part in _objects(value.get("parts")) for piece in _gemini(part)]
        value = {"role": "assistant" if value.get("role") == "model" else value.get("role")}
    else:
        inner = value.get("message")
        # A line of a transcript of Claude Code.
        value = inner if isinstance(inner, dict) else value
        pieces = [*_openai_or_anthropic(value)]
    role = value.get("role") or message.role
    if any(isinstance(piece, Call) for piece in pieces):
        role = "assistant"
    return Said(role if role != "other" else "user", [piece for piece in pieces if piece])


def _openai_or_anthropic(value: _Json) -> Iterator[Piece]:
    kind = value.get("type")
    if kind in ("function_call", "custom_tool_call"):
        yield Call(
            _string(value.get("call_id")),
            _string(value.get("name")),
            _arguments(value.get("arguments", value.get("input"))),
        )
        return
    if kind in ("function_call_output", "custom_tool_call_output"):
        yield Result(_string(value.get("call_id")), "", _text_of(value.get("output")))
        return
    content = value.get("content")
    if value.get("role") in ("tool", "function"):
        name = _string(value.get("name"))
        yield Result(_string(value.get("tool_call_id")), name, _text_of(content))
        return
    if isinstance(content, str):
        yield Text(content)
    for part in _objects(content):
        match part.get("type"):
            case "tool_use":
                arguments = _arguments(part.get("input"))
                yield Call(_string(part.get("id")), _string(part.get("name")), arguments)
            case "tool_result":
                text = _text_of(part.get("content"))
                yield Result(_string(part.get("tool_use_id")), "", text)
            case str() as part_kind if part_kind in _TEXTS:
                yield Text(_string(part.get("text") or part.get("refusal")))
    for call in _objects(value.get("tool_calls")):
        function = call.get("function") or call.get("custom") or {}
        arguments = _arguments(function.get("arguments", function.get("input")))
        yield Call(_string(call.get("id")), _string(function.get("name")), arguments)


def _gemini(part: _Json) -> Iterator[Piece]:
    if call := part.get("functionCall") or part.get("function_call"):
        arguments = _arguments(call.get("args") or {})
        yield Call(_string(call.get("id")), _string(call.get("name")), arguments)
    elif result := part.get("functionResponse") or part.get("function_response"):
        text = _text_of(result.get("response"))
        yield Result(_string(result.get("id")), _string(result.get("name")), text)
    elif not part.get("thought"):
        yield from _some(part.get("text"))


def _typed(part: _Json) -> Iterator[Piece]:
    match part.get("type"):
        case "text":
            yield from _some(part.get("text"))
        case "tool_call":
            arguments = part["arguments_json"] or "{}"
            yield Call(part["call_id"], part["name"], arguments)
        case "tool_result":
            texts = [inner["text"] for inner in part["parts"] if inner["type"] == "text"]
            yield Result(part["call_id"], "", "\n".join(texts))


def _strands(block: _Json) -> Iterator[Piece]:
    if isinstance(call := block.get("toolUse"), dict):
        arguments = _arguments(call.get("input"))
        yield Call(_string(call.get("toolUseId")), _string(call.get("name")), arguments)
    elif isinstance(result := block.get("toolResult"), dict):
        texts = [
            _string(inner["text"]) if "text" in inner else json.dumps(inner["json"])
            for inner in _objects(result.get("content"))
            if "text" in inner or "json" in inner
        ]
        yield Result(_string(result.get("toolUseId")), "", "\n".join(texts))
    else:
        yield from _some(block.get("text"))


def _pydantic_ai(part: _Json) -> Iterator[Piece]:
    content, id, name = part.get("content"), part.get("tool_call_id"), part.get("tool_name")
    match part.get("part_kind"):
        case "user-prompt" if isinstance(content, list):
            for item in content:
                yield from _some(item if isinstance(item, str) else item.get("content"))
        case "text" | "user-prompt" | "system-prompt":
            yield from _some(content)
        case "tool-call":
            yield Call(_string(id), _string(name), _arguments(part.get("args")))
        case "tool-return":
            yield Result(_string(id), _string(name), _text_of(content))
        case "retry-prompt" if name:
            yield Result(_string(id), _string(name), _text_of(content))
        case "retry-prompt":
            yield Text(_text_of(content))


def _some(text: object) -> Iterator[Text]:
    if isinstance(text, str) and text:
        yield Text(text)


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _objects(value: object) -> list[_Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _arguments(value: object) -> str:
    if isinstance(value, str):
        return value or "{}"
    return json.dumps({} if value is None else value, ensure_ascii=False)


def _text_of(value: object) -> str:
    """Return the text of a result: its text parts, or else its JSON."""
    if isinstance(value, str):
        return value
    texts = [part["text"] for part in _objects(value) if isinstance(part.get("text"), str)]
    if texts:
        return "\n".join(texts)
    return "" if value is None else json.dumps(value, ensure_ascii=False)
