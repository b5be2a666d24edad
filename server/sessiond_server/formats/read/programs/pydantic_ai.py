"""Reads the messages of Pydantic AI: requests, which mix speakers, and responses of the model."""

from collections.abc import Iterator
from itertools import groupby
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
from sessiond_server.formats.read.programs.native import MAKERS, content_of, foreign, said

_URLS = {"image-url": "image", "audio-url": "audio", "video-url": "video", "document-url": "file"}
# Parts in which the framework records changes for its own use.
_NOTES = (
    *("tool-availability-delta", "capability-load-delta", "model-settings-delta"),
    *("instruction-digest", "instruction-baseline", "instruction-delta"),
)
_FIX = "Fix the errors and try again."


def read(entry: Entry) -> Iterator[Entry]:
    """Yield what each speaker says in a message.

    It is either the message itself, or an entry of a conversation store that contains the message.
    """
    value = entry.value
    if isinstance(inner := value.get("message"), dict) and "kind" not in value:
        value = inner
    parts = objects_of(value.get("parts"))
    if value.get("kind") == "response":
        maker = string_of(value.get("canonical_system")) or string_of(value.get("provider_name"))
        yield said(entry, ROLE_ASSISTANT, [p for part in parts for p in _response(part, maker)])
    elif value.get("kind") == "request":
        entry.instructions = string_of(value.get("instructions"))
        spoken = [saying for part in parts for saying in _request(part)]
        for role, group in groupby(spoken, lambda saying: saying[0]):
            yield said(entry, role, [piece for _, piece in group])
    else:
        yield said(entry, ROLE_OTHER, [foreign(value, string_of(value.get("kind")) or "message")])


def _request(part: JSON) -> Iterator[tuple[Role.ValueType, Piece]]:
    kind, content = string_of(part.get("part_kind")), part.get("content")
    name = string_of(part.get("tool_name"))
    match kind:
        case "system-prompt" | "instruction":
            yield ROLE_SYSTEM, Text(string_of(content))
        case "user-prompt":
            for piece in _contents(content):
                yield ROLE_USER, piece
        case "tool-return":
            is_error = part.get("outcome") not in (None, "success")
            call_id = string_of(part.get("tool_call_id"))
            yield ROLE_TOOL, Result(call_id, name, _returned(content), is_error)
        case "retry-prompt" if name:
            text = Text(f"{_errors(content)}\n\n{_FIX}")
            yield ROLE_TOOL, Result(string_of(part.get("tool_call_id")), name, [text], True)
        case "retry-prompt" | "retry-feedback":
            yield ROLE_USER, Text(f"Validation feedback:\n{_errors(content)}\n\n{_FIX}")
        case "compaction":
            yield ROLE_USER, Text(string_of(content))
        case "speech":
            yield ROLE_USER, _speech(part)
        case _ if kind not in _NOTES:
            yield ROLE_USER, foreign(part, kind)


def _response(part: JSON, maker: str) -> Iterator[Piece]:
    kind, content = string_of(part.get("part_kind")), part.get("content")
    match kind:
        case "text":
            yield Text(string_of(content))
        case "thinking":
            made_by = MAKERS.get(maker, FORMAT_UNSPECIFIED)
            own = string_of(part.get("provider_name"))
            if own and own != maker:
                made_by = MAKERS.get(own, FORMAT_UNSPECIFIED)
            yield Thinking(string_of(content), string_of(part.get("signature")), made_by)
        case "tool-call":
            arguments = part.get("args")
            yield Call(
                string_of(part.get("tool_call_id")),
                string_of(part.get("tool_name")),
                arguments or "{}" if isinstance(arguments, str) else dumps(arguments or {}),
            )
        case "file" if isinstance(content, dict):
            yield _file(content)
        case "speech":
            yield _speech(part)
        case "compaction":
            yield Foreign(kind, string_of(content))
        case _:
            yield foreign(part, kind)


def _speech(part: JSON) -> Text | Foreign:
    transcript = string_of(part.get("transcript"))
    return Text(transcript) if transcript else Foreign("speech")


def _contents(content: Any) -> Iterator[Content]:
    """Split the content of a prompt."""
    for item in content if isinstance(content, list) else [content]:
        if isinstance(item, str):
            yield Text(item)
        elif isinstance(item, dict) and item.get("kind") in ("text-content", "structured-content"):
            text = item.get("content")
            yield Text(text if isinstance(text, str) else dumps(text))
        elif isinstance(item, dict) and item.get("kind") != "cache-point":
            yield _file(item)


def _returned(content: Any) -> list[Content]:
    """Split the result of a tool, which is any JSON that may contain files."""
    items = content if isinstance(content, list) else [content]
    if not any(_is_file(item) for item in items):
        return content_of(content)
    return [
        piece for item in items for piece in ([_file(item)] if _is_file(item) else content_of(item))
    ]


def _is_file(item: Any) -> bool:
    return isinstance(item, dict) and item.get("kind") in (*_URLS, "binary", "uploaded-file")


def _file(item: JSON) -> Media | Foreign:
    kind, media_type = item.get("kind"), string_of(item.get("media_type"))
    name = string_of(item.get("identifier"))
    if kind == "binary":
        data = item.get("data")
        return inline(kind_of(media_type), data, media_type=media_type, name=name, source=item)
    if isinstance(kind, str) and kind in _URLS:
        url = item.get("url")
        return at_url(_URLS[kind], url, media_type=media_type, name=name, source=item)
    return foreign(item, string_of(kind))


def _errors(content: Any) -> str:
    return content if isinstance(content, str) else dumps(content)
