"""Reads messages of OpenAI's Chat Completions API and items of its Responses API."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from sessiond.v1.message_pb2 import FORMAT_OPENAI
from sessiond_server.formats.files import at_url, inline, is_content
from sessiond_server.formats.parsing import dumps
from sessiond_server.formats.pieces import (
    JSON,
    Call,
    Content,
    Entry,
    Foreign,
    Media,
    Piece,
    Result,
    Text,
    Thinking,
    is_nonmessage_item,
    objects_of,
    rest_of,
    string_of,
)
from sessiond_server.formats.read.readable import readable

# The keys under which servers send the model's reasoning, the most exact first.
REASONING_KEYS = ("reasoning_content", "reasoning", "reasoning_details")
# Calls of tools that the caller runs, with the key that holds the action. The type of their results
# is "..._output".
ACTIONS = {
    "computer_call": "action",
    "local_shell_call": "action",
    "shell_call": "action",
    "apply_patch_call": "operation",
}
# The results whose id is the id of their call.
_RESULTS_BY_ID = {"local_shell_call_output"}
_ITEM_KEYS = frozenset(
    {"type", "id", "call_id", "status", "name", "arguments", "input", "output", "summary"}
    | {"content", "encrypted_content", "action", "actions", "operation", "result", "role"}
)
_MESSAGE_KEYS = frozenset(
    {"role", "content", "refusal", "tool_calls", "function_call", "tool_call_id", "type", "id"}
    | {"status", "name", "audio", "images", *REASONING_KEYS}
)
_LABELS = frozenset({"type", "id", "call_id", "status", "name", "tool_call_id"})
_CALL_KEYS = frozenset({"id", "type", "function", "custom", "index"})
_PART_KEYS = frozenset(
    {"type", "text", "refusal", "image_url", "input_audio", "file", "file_id", "file_data"}
    | {"file_url", "filename", "logprobs", "detail", "thinking"}
)


def read(entry: Entry) -> None:
    """Split a message or an item; see sessiond_server.formats.read."""
    value = entry.value
    if is_nonmessage_item(value):
        entry.pieces += _item(value)
        if not any(isinstance(piece, Foreign) for piece in entry.pieces):
            entry.extras += rest_of(value, _ITEM_KEYS, _LABELS)
    else:
        entry.pieces += _message(entry)
        entry.extras += rest_of(value, _MESSAGE_KEYS, _LABELS)
        if value["role"] not in ("tool", "function") and value.get("name"):
            entry.extras.append("name")
        for call in objects_of(value.get("tool_calls")):
            entry.extras += [f"tool_calls.{key}" for key in rest_of(call, _CALL_KEYS, _LABELS)]
    for part in [*objects_of(value.get("content")), *objects_of(value.get("output"))]:
        if is_part(part):
            entry.extras += rest_of(part, _PART_KEYS)
            inner = part.get("image_url")
            details = (part.get("detail"), inner.get("detail") if isinstance(inner, dict) else "")
            entry.extras += ["detail" for given in details if given not in (None, "", "auto")]


def _item(item: JSON) -> Iterator[Piece]:
    """Split an item of the Responses API that is not a message."""
    kind = string_of(item.get("type"))
    call_id = string_of(item.get("call_id"))
    if kind in _RESULTS_BY_ID:
        call_id = call_id or string_of(item.get("id"))
    match kind:
        case "function_call":
            yield Call(
                call_id, string_of(item.get("name")), _arguments(item.get("arguments")), source=item
            )
        case "custom_tool_call":
            yield Call(
                call_id,
                string_of(item.get("name")),
                _text_of(item.get("input")),
                is_custom=True,
                source=item,
            )
        case "reasoning":
            texts = [
                string_of(part.get("text"))
                for key in ("summary", "content")
                for part in objects_of(item.get(key))
            ]
            yield Thinking(
                "\n\n".join(filter(None, texts)),
                string_of(item.get("encrypted_content")),
                FORMAT_OPENAI,
                item,
            )
        case _ if kind in ACTIONS:
            action = item.get(ACTIONS[kind]) or item.get("actions")
            yield Call(call_id, kind.removesuffix("_call"), _arguments(action), source=item)
        case _ if kind.endswith("call_output"):
            status = string_of(item.get("status"))
            output = item.get("output")
            pieces = list(content(status if output is None else output, of_tool=True))
            yield Result(call_id, "", pieces, status == "failed", item)
        case "image_generation_call" if isinstance(item.get("result"), str):
            yield inline("image", item["result"], media_type="image/png", name="", source=item)
        case _:
            yield Foreign(kind or "item", readable(item), item)


def _message(entry: Entry) -> Iterator[Piece]:
    value = entry.value
    if value["role"] in ("tool", "function"):
        yield Result(
            string_of(value.get("tool_call_id")),
            string_of(value.get("name")),
            list(content(value.get("content"), of_tool=True)),
            source=value,
        )
        return
    yield from _reasoning(value)
    for piece in content(value.get("content")):
        if isinstance(piece, Foreign) and piece.kind == "thinking":
            yield Thinking(piece.text, "", FORMAT_OPENAI, piece.source)
        else:
            yield piece
    if refusal := string_of(value.get("refusal")):
        yield Text(refusal)
    if isinstance(audio := value.get("audio"), dict):
        yield Foreign("audio", string_of(audio.get("transcript")), audio)
    for image in objects_of(value.get("images")):
        yield from content([image])
    calls = value.get("tool_calls")
    for call in objects_of(calls):
        is_custom = call.get("type") == "custom"
        inner = call.get("custom" if is_custom else "function")
        inner = inner if isinstance(inner, dict) else {}
        yield Call(
            string_of(call.get("id")),
            string_of(inner.get("name")),
            _text_of(inner.get("input")) if is_custom else _arguments(inner.get("arguments")),
            is_custom,
            call,
        )
    if isinstance(inner := value.get("function_call"), dict):
        name = string_of(inner.get("name"))
        yield Call("", name, _arguments(inner.get("arguments")), source=inner)


def _reasoning(value: JSON) -> Iterator[Piece]:
    for key in REASONING_KEYS:
        found = value.get(key)
        if isinstance(found, str) and found:
            yield Thinking(found, maker=FORMAT_OPENAI, source=value)
            return
        texts = [readable(detail) for detail in objects_of(found)]
        if texts:
            yield Thinking("\n".join(filter(None, texts)), maker=FORMAT_OPENAI, source=value)
            return


def content(value: Any, *, of_tool: bool = False) -> Iterator[Content]:
    """Split the content of a message or the output of a tool.

    Args:
        value: text, a list of parts, or JSON.
        of_tool: whether a tool returned it. A tool may return any JSON, even an object with a type
            that is not the type of a part.
    """
    if isinstance(value, str):
        yield Text(value)
    elif isinstance(value, list):
        for is_plain, parts in groupby(value, _is_plain):
            if is_plain:
                # A list of numbers becomes a single text, whatever its length.
                if plain := [part for part in parts if part is not None]:
                    yield Text(dumps(plain if len(plain) > 1 else plain[0]))
                continue
            for part in parts:
                if isinstance(part, str):
                    yield Text(part)
                elif of_tool and not is_part(part):
                    yield _json(part)
                else:
                    yield _part(part)
    elif isinstance(value, dict):
        is_known = is_part(value) and value.keys() <= _PART_KEYS
        yield _part(value) if is_known else _json(value)
    elif value is not None:
        yield Text(_text_of(value))


def is_part(value: JSON) -> bool:
    """Whether an object is a part of content: it has a known type and that type's fields."""
    match value.get("type"):
        case "text" | "input_text" | "output_text" | "summary_text" | "reasoning_text":
            return isinstance(value.get("text"), str)
        case "refusal":
            return isinstance(value.get("refusal"), str)
        case "image_url" | "input_image" | "computer_screenshot":
            return isinstance(value.get("image_url"), str | dict) or "file_id" in value
        case "input_audio" | "file" as kind:
            return isinstance(value.get(kind), dict)
        case "input_file":
            return not value.keys().isdisjoint(("file_data", "file_url", "file_id"))
        case "thinking":
            return isinstance(value.get("thinking"), list)
        case _:
            return False


def _json(value: JSON) -> Content:
    """Return the content of a tool's JSON object: a file if it is one, otherwise its text."""
    kind, data = value.get("type"), value.get("data")
    if kind in ("image", "audio") and isinstance(data, str):
        # A file as MCP servers return it.
        media_type = string_of(value.get("mimeType"))
        return inline(str(kind), data, media_type=media_type, name="", source=value)
    if _has_file(value):
        return Foreign(string_of(kind) or "part", readable(value), value)
    return Text(dumps(value))


def _has_file(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_has_file, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str) and is_content(value)


def _is_plain(part: Any) -> bool:
    return not isinstance(part, str | dict)


def _part(part: JSON) -> Content:
    kind = part.get("type")
    if not is_part(part):
        return Foreign(string_of(kind) or "part", readable(part), part)
    match kind:
        case "text" | "input_text" | "output_text" | "summary_text" | "reasoning_text":
            return Text(_text_of(part.get("text")), part)
        case "refusal":
            return Text(_text_of(part.get("refusal")), part)
        case "image_url" | "input_image" | "computer_screenshot":
            inner = part.get("image_url")
            if file_id := string_of(part.get("file_id")):
                return Media("image", file_id=file_id, source=part)
            url = inner.get("url") if isinstance(inner, dict) else inner
            return at_url("image", url, media_type="", name="", source=part)
        case "input_audio":
            inner = part["input_audio"]
            media_type = f"audio/{string_of(inner.get('format')) or 'wav'}"
            return inline("audio", inner.get("data"), media_type=media_type, name="", source=part)
        case "file" | "input_file":
            inner = part["file"] if kind == "file" else part
            name = string_of(inner.get("filename"))
            if file_id := string_of(inner.get("file_id")):
                return Media("file", file_id=file_id, name=name, source=part)
            data = inner.get("file_data") or inner.get("file_url")
            if isinstance(data, str) and not data.startswith(("data:", "http", "sessiond-asset:")):
                return inline("file", data, media_type="", name=name, source=part)
            return at_url("file", data, media_type="", name=name, source=part)
        case _:
            return Foreign(string_of(kind) or "part", readable(part), part)


def _arguments(value: Any) -> str:
    """Return the arguments of a call as text; some servers send an object."""
    return "{}" if value in (None, "") else _text_of(value)


def _text_of(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else dumps(value)
