"""Reads the messages of Strands Agents, which have the shape of Amazon Bedrock's Converse API."""

from collections.abc import Iterator
from typing import Any

from sessiond.v1.message_pb2 import ROLE_OTHER
from sessiond_server.formats.files import inline
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
from sessiond_server.formats.read.programs.native import ROLES, foreign, said

_FILES = {"image": "image", "audio": "audio", "video": "video", "document": "file"}
_MEDIA_TYPES = {
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
    "mp3": "audio/mpeg",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


def read(entry: Entry) -> Iterator[Entry]:
    """Yield a message, which may be inside a record of a session repository."""
    value = entry.value
    for key in ("redact_message", "message"):
        # A redacted message, if there is one, replaces the original message.
        if isinstance(inner := value.get(key), dict):
            value = inner
            break
    role = value.get("role")
    pieces = [piece for block in objects_of(value.get("content")) for piece in _block(block)]
    yield said(entry, ROLES.get(role, ROLE_OTHER) if isinstance(role, str) else ROLE_OTHER, pieces)


def _block(block: JSON) -> Iterator[Piece]:
    kind = next((key for key, item in block.items() if item is not None), "")
    inner = block.get(kind)
    match kind, inner:
        case "text", str():
            yield Text(inner)
        case "toolUse", dict():
            arguments = inner.get("input")
            yield Call(
                string_of(inner.get("toolUseId")),
                string_of(inner.get("name")),
                dumps({} if arguments is None else arguments),
            )
        case "toolResult", dict():
            contents = [piece for one in objects_of(inner.get("content")) for piece in _result(one)]
            is_error = inner.get("status") == "error"
            yield Result(string_of(inner.get("toolUseId")), "", contents, is_error)
        case "reasoningContent", dict():
            # The message does not say who signed it.
            text = inner.get("reasoningText")
            yield Thinking(string_of(text.get("text")) if isinstance(text, dict) else "")
        case "citationsContent", dict():
            for one in objects_of(inner.get("content")):
                yield Text(string_of(one.get("text")))
        case "guardContent", {"text": {"text": str(text)}}:
            yield Text(text)
        case (("cachePoint" | ""), _):
            pass
        case _ if kind in _FILES and isinstance(inner, dict):
            yield _file(kind, inner)
        case _:
            yield foreign(block, kind)


def _result(block: JSON) -> Iterator[Content]:
    if "json" in block:
        yield Text(dumps(block["json"]))
        return
    yield from (piece for piece in _block(block) if isinstance(piece, Text | Media | Foreign))


def _file(kind: str, inner: JSON) -> Media | Foreign:
    suffix, source = string_of(inner.get("format")), inner.get("source")
    media_type = _MEDIA_TYPES.get(suffix, f"{kind}/{suffix}" if suffix else "")
    name = string_of(inner.get("name"))
    source = source if isinstance(source, dict) else {}
    if data := _base64(source.get("bytes")):
        return inline(_FILES[kind], data, media_type=media_type, name=name, source=inner)
    location = source.get("location")
    if isinstance(location, dict) and isinstance(uri := location.get("uri"), str):
        return Media(_FILES[kind], media_type, uri=uri, name=name)
    return foreign(inner, kind)


def _base64(data: Any) -> str:
    """Return bytes as Strands writes them to JSON."""
    return string_of(data.get("data") if isinstance(data, dict) else data)
