"""Reads LangChain's messages, as messages_to_dict() and dumpd() write them."""

from collections.abc import Iterator
from typing import Any

from sessiond.v1.message_pb2 import (
    FORMAT_UNSPECIFIED,
    ROLE_ASSISTANT,
    ROLE_OTHER,
    ROLE_SYSTEM,
    ROLE_TOOL,
    ROLE_USER,
    Role,
)
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
    string_of,
)
from sessiond_server.formats.read.anthropic import blocks
from sessiond_server.formats.read.openai import content as openai_content
from sessiond_server.formats.read.openai import is_part
from sessiond_server.formats.read.programs.native import ROLES, said

_TYPES: dict[str, Role.ValueType] = {
    "human": ROLE_USER,
    "ai": ROLE_ASSISTANT,
    "system": ROLE_SYSTEM,
    "tool": ROLE_TOOL,
    "function": ROLE_TOOL,
}
_FILES = ("image", "audio", "video", "file")


def read(entry: Entry) -> Iterator[Entry]:
    """Yield a message; nothing for one that removes another."""
    kind, data = type_and_data(entry.value)
    if kind == "remove":
        return
    role = _TYPES.get(kind, ROLE_OTHER)
    if kind == "chat":
        role = ROLES.get(string_of(data.get("role")).lower(), ROLE_OTHER)
    if role == ROLE_TOOL:
        is_error = data.get("status") == "error"
        contents = [*_returned(data.get("content"))]
        call_id, name = string_of(data.get("tool_call_id")), string_of(data.get("name"))
        pieces: list[Piece] = [Result(call_id, name, contents, is_error)]
    else:
        pieces = [*_contents(data.get("content"))]
        pieces += _calls(data)
    yield said(entry, role, pieces)


def type_and_data(value: JSON) -> tuple[str, JSON]:
    """Return the type and the fields of a message that either of the two functions wrote."""
    if isinstance(kwargs := value.get("kwargs"), dict):
        path = value.get("id")
        name = string_of(path[-1]) if isinstance(path, list) and path else ""
        kind = name.removesuffix("Chunk").removesuffix("Message").lower()
        return string_of(kwargs.get("type")) or kind, kwargs
    data = value.get("data")
    kind = string_of(value.get("type"))
    if kind.endswith("MessageChunk"):
        kind = kind.removesuffix("MessageChunk").lower()
    return kind, data if isinstance(data, dict) else value


def _calls(data: JSON) -> Iterator[Piece]:
    for call in objects_of(data.get("tool_calls")):
        arguments = call.get("args")
        yield Call(
            string_of(call.get("id")),
            string_of(call.get("name")),
            dumps({} if arguments is None else arguments),
        )
    for call in objects_of(data.get("invalid_tool_calls")):
        arguments = string_of(call.get("args")) or "{}"
        yield Call(string_of(call.get("id")), string_of(call.get("name")), arguments)


def _contents(content: Any) -> Iterator[Piece]:
    for block in content if isinstance(content, list) else [content]:
        if isinstance(block, str):
            yield Text(block)
        elif isinstance(block, dict):
            yield from _block(block)


def _block(block: JSON) -> Iterator[Piece]:
    kind = string_of(block.get("type"))
    match kind:
        case "tool_use" | "tool_call" | "invalid_tool_call" | "function_call" | "input_json_delta":
            pass  # also among the message's tool_calls
        case "thinking" | "redacted_thinking":
            # The signature is dropped: it does not prove that the rest of the answer is unchanged.
            yield Thinking(string_of(block.get("thinking")))
        case "reasoning":
            text = string_of(block.get("reasoning")) or "\n\n".join(
                string_of(part.get("text")) for part in objects_of(block.get("summary"))
            )
            yield Thinking(text, "", FORMAT_UNSPECIFIED)
        case _ if kind in _FILES and (media := _file(kind, block)):
            yield media
        case _ if is_part(block):
            yield from openai_content([block])
        case _:
            yield from _plain(blocks([block]))


def _plain(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Keep only the text of foreign pieces, because their blocks have another format."""
    for piece in pieces:
        yield Foreign(piece.kind, piece.text) if isinstance(piece, Foreign) else piece


def _file(kind: str, block: JSON) -> Media | None:
    """Return the file in a block of LangChain's own format, which has two versions."""
    media_type = string_of(block.get("mime_type"))
    name = string_of(block.get("filename"))
    data = block.get("base64") or block.get("data")
    if isinstance(data, str):
        kind = kind_of(media_type) if media_type else kind
        return inline(kind, data, media_type=media_type, name=name, source=block)
    if isinstance(url := block.get("url"), str):
        return at_url(kind, url, media_type=media_type, name=name, source=block)
    if isinstance(file_id := block.get("file_id") or block.get("id"), str):
        return Media(kind, media_type, file_id=file_id, name=name)
    return None


def _returned(content: Any) -> Iterator[Content]:
    if isinstance(content, list):
        for piece in _contents(content):
            if isinstance(piece, Text | Media | Foreign):
                yield piece
    else:
        yield from openai_content(content, of_tool=True)
