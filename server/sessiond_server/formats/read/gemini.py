"""Reads contents of the Gemini API, in the API's spelling and in that of its Python SDK."""

from collections.abc import Iterator
from typing import Any

from sessiond.v1.message_pb2 import FORMAT_GEMINI
from sessiond_server.formats.files import at_url, inline, kind_of
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
    objects_of,
    rest_of,
    string_of,
)
from sessiond_server.formats.read.readable import readable

_PART_KEYS = frozenset(
    {"text", "thought", "thoughtSignature", "inlineData", "fileData", "functionCall"}
    | {"functionResponse", "executableCode", "codeExecutionResult", "toolCall", "toolResponse"}
)
_RESPONSE_KEYS = frozenset({"id", "name", "response", "parts"})
_FILE_KEYS = frozenset({"mimeType", "data", "fileUri", "displayName"})


def read(entry: Entry) -> None:
    """Split a content; see sessiond_server.formats.read."""
    parts = entry.value.get("parts")
    if isinstance(parts, dict):
        parts = [parts]
    entry.extras += rest_of(entry.value, frozenset({"role", "parts"}))
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, dict):
            entry.pieces += _part(part)
            entry.extras += rest_of({camel(key): item for key, item in part.items()}, _PART_KEYS)
            if isinstance(inner := field(part, "functionResponse"), dict):
                entry.extras += rest_of(inner, _RESPONSE_KEYS)
                inner_parts = inner.get("parts")
            else:
                inner_parts = None
            for holder in [part, *objects_of(inner_parts)]:
                for key in ("inlineData", "fileData"):
                    if isinstance(file := field(holder, key), dict):
                        spelled = {camel(name): item for name, item in file.items()}
                        entry.extras += rest_of(spelled, _FILE_KEYS)
        elif isinstance(part, str):
            entry.pieces.append(Text(part))


def camel(key: str) -> str:
    """Return a key in the API's spelling: "mimeType" for "mime_type"."""
    first, *words = key.split("_")
    return first + "".join(word.capitalize() for word in words)


def field(value: JSON, key: str) -> Any:
    """Return a field, given its name in the API's spelling. None = missing."""
    if key in value:
        return value[key]
    return next((item for name, item in value.items() if camel(name) == key), None)


def _part(part: JSON) -> Iterator[Piece]:
    text = field(part, "text")
    if isinstance(inner := field(part, "functionCall"), dict):
        arguments = inner.get("args")
        yield Call(
            string_of(inner.get("id")),
            string_of(inner.get("name")),
            dumps({} if arguments is None else arguments),
            source=part,
        )
    elif isinstance(inner := field(part, "functionResponse"), dict):
        yield Result(
            string_of(inner.get("id")),
            string_of(inner.get("name")),
            [*_response(inner)],
            source=part,
        )
    elif part.get("thought") is True:
        words = text if isinstance(text, str) else readable(part)
        yield Thinking(words, string_of(field(part, "thoughtSignature")), FORMAT_GEMINI, part)
    elif media := media_of(part):
        yield media
    elif isinstance(text, str):
        yield Text(text, part)
    else:
        kind = next((camel(key) for key, item in part.items() if item is not None), "part")
        yield Foreign(kind, readable(part), part)


def _response(inner: JSON) -> Iterator[Content]:
    response = inner.get("response")
    if response is not None:
        yield Text(dumps(response))
    parts = inner.get("parts")
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, dict):
            yield media_of(part) or Foreign("functionResponse part", readable(part), part)


def media_of(part: JSON) -> Media | None:
    """Return the file of a part of a content, or of a tool's result. None = it has none."""
    inline_data, file_data = field(part, "inlineData"), field(part, "fileData")
    inner = inline_data if isinstance(inline_data, dict) else file_data
    if not isinstance(inner, dict):
        return None
    media_type, name = string_of(field(inner, "mimeType")), string_of(field(inner, "displayName"))
    read, key = (inline, "data") if inner is inline_data else (at_url, "fileUri")
    return read(
        kind_of(media_type), field(inner, key), media_type=media_type, name=name, source=part
    )
