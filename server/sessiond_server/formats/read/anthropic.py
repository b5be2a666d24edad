"""Reads messages of Anthropic's Messages API."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC
from sessiond_server.formats.files import at_url, inline
from sessiond_server.formats.parsing import dumps
from sessiond_server.formats.pieces import (
    JSON,
    Call,
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

# The keys of messages. Apart from role and content, they mean nothing to a model.
_MESSAGE_KEYS = frozenset(
    {"role", "content", "id", "type", "model", "stop_reason", "stop_sequence", "usage"}
    | {"container", "context_management", "stop_details"}
)
_BLOCK_KEYS = frozenset(
    {"type", "text", "thinking", "signature", "data", "source", "title", "id", "name", "input"}
    | {"tool_use_id", "content", "is_error", "cache_control", "caller"}
)


_LABELS = frozenset(
    {"id", "type", "model", "stop_reason", "stop_sequence", "name", "tool_use_id", "is_error"}
)


def read(entry: Entry) -> None:
    """Split a message; see sessiond_server.formats.read."""
    entry.pieces += blocks(entry.value.get("content"))
    entry.extras += rest_of(entry.value, _MESSAGE_KEYS, _LABELS)
    entry.extras += _extras(entry.value.get("content"))


def _extras(content: Any) -> Iterator[str]:
    """Yield the fields of blocks that the pieces do not carry."""
    for block in objects_of(content):
        kind = block.get("type")
        if kind in ("text", "image", "document", "tool_use", "tool_result"):
            yield from rest_of(block, _BLOCK_KEYS, _LABELS)
            if not _is_marker(block.get("cache_control")):
                yield "cache_control"
            if not isinstance(block.get("is_error"), bool | None):
                yield "is_error"
        if kind == "tool_result":
            yield from _extras(block.get("content"))
        source = block.get("source")
        is_text = isinstance(source, dict) and source.get("type") in ("text", "content")
        if kind == "document" and is_text and block.get("title"):
            # Files keep their title as their name; texts have no names.
            yield "title"


def _is_marker(value: Any) -> bool:
    """Whether a value is None or a cache marker as the API defines it.

    Such a value is dropped in a conversion without a report, because other APIs need no markers.
    """
    if value is None:
        return True
    return (
        isinstance(value, dict)
        and value.keys() <= {"type", "ttl"}
        and value.get("type") == "ephemeral"
        and isinstance(value.get("ttl"), str | None)
    )


def blocks(content: Any) -> Iterator[Piece]:
    """Split the content of a message or of a tool result."""
    if isinstance(content, str):
        yield Text(content)
    elif isinstance(content, dict):
        yield from blocks([content])
    elif isinstance(content, list):
        for block in content:
            if isinstance(block, dict):
                yield from _block(block)
            elif isinstance(block, str):
                yield Text(block)


def _block(block: JSON) -> Iterator[Piece]:
    kind = string_of(block.get("type"))
    match kind:
        case "text":
            yield Text(string_of(block.get("text")), block)
        case "image" | "document":
            yield from _file("image" if kind == "image" else "file", block)
        case "tool_use":
            arguments = block.get("input")
            yield Call(
                string_of(block.get("id")),
                string_of(block.get("name")),
                dumps({} if arguments is None else arguments),
                source=block,
            )
        case "tool_result":
            inner = [
                piece
                for piece in blocks(block.get("content"))
                if isinstance(piece, Text | Media | Foreign)
            ]
            yield Result(
                string_of(block.get("tool_use_id")),
                "",
                inner,
                block.get("is_error") is True,
                block,
            )
        case "thinking":
            yield Thinking(
                string_of(block.get("thinking")),
                string_of(block.get("signature")),
                FORMAT_ANTHROPIC,
                block,
            )
        case "redacted_thinking":
            yield Thinking("", string_of(block.get("data")), FORMAT_ANTHROPIC, block)
        case "container_upload":
            yield Media("file", file_id=string_of(block.get("file_id")), source=block)
        case _:
            yield Foreign(kind or "block", readable(block), block)


def _file(kind: str, block: JSON) -> Iterator[Piece]:
    source = block.get("source")
    source = source if isinstance(source, dict) else {}
    media_type, name = string_of(source.get("media_type")), string_of(block.get("title"))
    match source.get("type"):
        case "base64":
            yield inline(kind, source.get("data"), media_type=media_type, name=name, source=block)
        case "url":
            yield at_url(kind, source.get("url"), media_type=media_type, name=name, source=block)
        case "text":
            media = inline(
                "file", source.get("data"), media_type="text/plain", name=name, source=block
            )
            yield media if media.asset_id else Text(string_of(source.get("data")), block)
        case "content":
            # The document consists of texts and images.
            inner = [
                replace(piece, container=block)
                for piece in blocks(source.get("content"))
                if isinstance(piece, Text | Media | Foreign)
            ]
            yield from inner or [Foreign("document", readable(block), block)]
        case "file":
            yield Media(
                kind, media_type, file_id=string_of(source.get("file_id")), name=name, source=block
            )
        case _:
            yield Foreign(kind, readable(block), block)
