"""Splits messages of any format into pieces that every provider knows.

Pieces that only their own provider understands are left out: its thinking, citations, and calls of
tools that it runs itself. Of stored JSON only the role was checked, so anything that does not have
the documented shape is skipped.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_GEMINI,
    FORMAT_OPENAI,
    ROLE_ASSISTANT,
    Blob,
    Message,
    Part,
    Role,
)
from sessiond_server.providers.files import (
    AssetContents,
    asset_id_of,
    media_type_of,
    parse_data_url,
    to_base64,
)


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Media:
    """A file.

    Attributes:
        kind: image, audio or file.
        media_type: "" = unknown.
        data: the content in base64. "" = it is at uri.
        uri: "" = none.
        name: "" = none.
    """

    kind: str
    media_type: str = ""
    data: str = ""
    uri: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call.

    Attributes:
        call_id: "" = the format has none.
        name: the tool.
        arguments: JSON text.
    """

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a tool call."""

    call_id: str
    name: str
    pieces: Sequence["Text | Media"]
    is_error: bool = False


Piece: TypeAlias = Text | Media | Call | Result


@dataclass(slots=True)
class NeutralMessage:
    """A message as pieces that no provider owns."""

    role: Role.ValueType
    pieces: list[Piece] = field(default_factory=list)

    @property
    def calls(self) -> list[Call]:
        return [piece for piece in self.pieces if isinstance(piece, Call)]

    @property
    def results(self) -> list[Result]:
        return [piece for piece in self.pieces if isinstance(piece, Result)]

    @property
    def content(self) -> list[Text | Media]:
        return [piece for piece in self.pieces if isinstance(piece, Text | Media)]


def read(message: Message, value: dict[str, Any], assets: AssetContents) -> NeutralMessage:
    """Split a message into pieces.

    Args:
        message: as stored.
        value: its parsed JSON; {} for typed parts.
        assets: contents of the assets that it refers to.
    """
    pieces: Iterator[Piece] = iter(())
    if message.HasField("parts"):
        pieces = (piece for part in message.parts.parts for piece in _part(part, assets))
    elif message.format == FORMAT_OPENAI:
        pieces = _openai(value, assets)
    elif message.format == FORMAT_ANTHROPIC:
        pieces = _anthropic(value.get("content"), assets)
    elif message.format == FORMAT_GEMINI:
        pieces = _gemini(value, assets)
    return NeutralMessage(message.role, list(pieces))


def texts(message: NeutralMessage) -> list[str]:
    """Return the texts of a message."""
    return [piece.text for piece in message.pieces if isinstance(piece, Text)]


def assign_call_ids(messages: Sequence[NeutralMessage]) -> None:
    """Give each call a unique id, and its result the same.

    Some formats have no ids, and real histories use one id several times.
    """
    seen: set[str] = set()
    # The new ids of the calls without a result so far, by the id in the format, or else by name.
    pending: dict[tuple[bool, str], list[str]] = {}
    for message in messages:
        for i, piece in enumerate(message.pieces):
            if isinstance(piece, Call | Result):
                ids = pending.setdefault(
                    (True, piece.call_id) if piece.call_id else (False, piece.name), []
                )
            if isinstance(piece, Call):
                call_id = _unused(piece.call_id or f"call_{len(seen) + 1}", seen)
                seen.add(call_id)
                ids.append(call_id)
                message.pieces[i] = replace(piece, call_id=call_id)
            elif isinstance(piece, Result):
                # A result belongs to the latest call with its id. Calls without ids are answered
                # in order.
                call_id = ids.pop(-1 if piece.call_id else 0) if ids else piece.call_id
                message.pieces[i] = replace(piece, call_id=call_id)


def _unused(call_id: str, seen: set[str]) -> str:
    number, candidate = 2, call_id
    while candidate in seen:
        candidate = f"{call_id}_{number}"
        number += 1
    return candidate


def merge_calls(messages: Sequence[NeutralMessage]) -> Iterator[NeutralMessage]:
    """Merge parallel calls of the model into one message, and leave out empty messages."""
    last: NeutralMessage | None = None
    for message in messages:
        if not message.pieces:
            continue
        if last and last.role == message.role == ROLE_ASSISTANT and (last.calls or message.calls):
            last.pieces += message.pieces
            continue
        if last:
            yield last
        last = message
    if last:
        yield last


def _part(part: Part, assets: AssetContents) -> Iterator[Piece]:
    match part.WhichOneof("kind"):
        case "text":
            yield Text(part.text)
        case "data":
            yield Text(part.data)
        case "image" | "audio" | "file" as kind:
            yield _blob(kind, getattr(part, kind), assets)
        case "tool_call":
            yield Call(
                part.tool_call.call_id, part.tool_call.name, part.tool_call.arguments_json or "{}"
            )
        case "tool_result":
            inner = [piece for inner in part.tool_result.parts for piece in _part(inner, assets)]
            yield Result(
                part.tool_result.call_id, "", _content_of(inner), part.tool_result.is_error
            )
        case _:
            pass


def _blob(kind: str, blob: Blob, assets: AssetContents) -> Media:
    match blob.WhichOneof("source"):
        case "inline":
            return Media(
                kind,
                media_type_of(blob.inline, blob.media_type),
                to_base64(blob.inline),
                name=blob.name,
            )
        case "asset_id":
            return _asset(kind, blob.asset_id, blob.media_type, blob.name, assets)
        case _:
            return media(kind, blob.uri, blob.media_type, blob.name, assets)


def media(kind: str, reference: Any, media_type: str, name: str, assets: AssetContents) -> Media:
    """Return the file that a provider's JSON refers to by URL, data URL or asset."""
    reference = reference if isinstance(reference, str) else ""
    if asset_id := asset_id_of(reference):
        return _asset(kind, asset_id, media_type, name, assets)
    if parsed := parse_data_url(reference):
        return Media(kind, media_type or parsed[0], parsed[1], name=name)
    return Media(kind, media_type, uri=reference, name=name)


def inline(kind: str, data: Any, media_type: str, name: str, assets: AssetContents) -> Media:
    """Return the file that a provider's JSON contains as base64, or the asset in its place."""
    if asset_id := asset_id_of(data):
        return _asset(kind, asset_id, media_type, name, assets)
    return Media(kind, media_type, data if isinstance(data, str) else "", name=name)


def _asset(kind: str, asset_id: str, media_type: str, name: str, assets: AssetContents) -> Media:
    asset = assets.get(asset_id)
    return Media(
        kind,
        media_type_of(asset.content, media_type or asset.media_type),
        to_base64(asset.content),
        name=name,
    )


def _content_of(pieces: Sequence[Piece]) -> list[Text | Media]:
    return [piece for piece in pieces if isinstance(piece, Text | Media)]


def _openai(value: dict[str, Any], assets: AssetContents) -> Iterator[Piece]:
    """Split a Chat Completions message or an item of the Responses API."""
    kind = _string(value.get("type"))
    if "role" not in value:
        if kind in ("function_call", "custom_tool_call"):
            yield Call(
                _string(value.get("call_id")),
                _string(value.get("name")),
                _arguments(value, kind == "custom_tool_call"),
            )
        elif kind in ("function_call_output", "custom_tool_call_output"):
            yield Result(
                _string(value.get("call_id")),
                "",
                list(_openai_content(value.get("output"), assets)),
            )
        return
    content = list(_openai_content(value.get("content"), assets))
    if value["role"] in ("tool", "function"):
        yield Result(_string(value.get("tool_call_id")), _string(value.get("name")), content)
        return
    yield from content
    if refusal := _string(value.get("refusal")):
        yield Text(refusal)
    for call in _objects(value.get("tool_calls")):
        custom = call.get("type") == "custom"
        inner = call.get("custom" if custom else "function")
        if isinstance(inner, dict):
            yield Call(
                _string(call.get("id")), _string(inner.get("name")), _arguments(inner, custom)
            )
    if isinstance(inner := value.get("function_call"), dict):
        yield Call("", _string(inner.get("name")), _arguments(inner, False))


def _arguments(inner: dict[str, Any], custom: bool) -> str:
    return json.dumps({"input": inner.get("input")}) if custom else _string(inner.get("arguments"))


def _openai_content(content: Any, assets: AssetContents) -> Iterator[Text | Media]:
    if isinstance(content, str):
        yield Text(content)
    for part in _objects(content):
        match part.get("type"):
            case "text" | "input_text" | "output_text":
                yield Text(_string(part.get("text")))
            case "refusal":
                yield Text(_string(part.get("refusal")))
            case "image_url" | "input_image":
                inner = part.get("image_url")
                yield media(
                    "image",
                    inner.get("url") if isinstance(inner, dict) else inner,
                    "",
                    _string(part.get("file_id")),
                    assets,
                )
            case "input_audio":
                inner = part.get("input_audio")
                if isinstance(inner, dict):
                    yield inline(
                        "audio",
                        inner.get("data"),
                        f"audio/{_string(inner.get('format')) or 'wav'}",
                        "",
                        assets,
                    )
            case "file" | "input_file":
                inner = part.get("file") if part.get("type") == "file" else part
                if isinstance(inner, dict):
                    name = _string(inner.get("filename")) or _string(inner.get("file_id"))
                    yield media(
                        "file", inner.get("file_data") or inner.get("file_url"), "", name, assets
                    )
            case _:
                pass


def _anthropic(content: Any, assets: AssetContents) -> Iterator[Piece]:
    if isinstance(content, str):
        yield Text(content)
    for block in _objects(content):
        match block.get("type"):
            case "text":
                yield Text(_string(block.get("text")))
            case "image":
                yield from _content_of([*_source("image", block, assets)])
            case "document":
                yield from _content_of([*_source("file", block, assets)])
            case "tool_use":
                yield Call(
                    _string(block.get("id")),
                    _string(block.get("name")),
                    json.dumps(block.get("input") or {}),
                )
            case "tool_result":
                inner = _content_of([*_anthropic(block.get("content"), assets)])
                yield Result(
                    _string(block.get("tool_use_id")), "", inner, block.get("is_error") is True
                )
            case _:
                pass


def _source(kind: str, block: dict[str, Any], assets: AssetContents) -> Iterator[Piece]:
    source = block.get("source")
    if not isinstance(source, dict):
        return
    media_type, name = _string(source.get("media_type")), _string(block.get("title"))
    match source.get("type"):
        case "base64":
            yield inline(kind, source.get("data"), media_type, name, assets)
        case "url":
            yield media(kind, source.get("url"), media_type, name, assets)
        case "text":
            if asset_id_of(source.get("data")):
                yield inline(kind, source.get("data"), media_type or "text/plain", name, assets)
            else:
                yield Text(_string(source.get("data")))
        case "content":
            yield from _anthropic(source.get("content"), assets)
        case "file":
            yield Media(kind, media_type, name=name or _string(source.get("file_id")))
        case _:
            pass


def _gemini(value: dict[str, Any], assets: AssetContents) -> Iterator[Piece]:
    for part in _objects(value.get("parts")):
        if part.get("thought") is True:
            continue
        if isinstance(text := part.get("text"), str):
            yield Text(text)
        for camel, snake in _GEMINI_PARTS:
            inner = part.get(camel, part.get(snake))
            if not isinstance(inner, dict):
                continue
            media_type = _string(inner.get("mimeType", inner.get("mime_type")))
            name = _string(inner.get("displayName", inner.get("display_name")))
            match camel:
                case "inlineData":
                    yield inline(_kind(media_type), inner.get("data"), media_type, name, assets)
                case "fileData":
                    yield media(
                        _kind(media_type),
                        inner.get("fileUri", inner.get("file_uri")),
                        media_type,
                        name,
                        assets,
                    )
                case "functionCall":
                    yield Call(
                        _string(inner.get("id")),
                        _string(inner.get("name")),
                        json.dumps(inner.get("args") or {}),
                    )
                case "functionResponse":
                    answer = Text(json.dumps(inner.get("response") or {}, ensure_ascii=False))
                    yield Result(_string(inner.get("id")), _string(inner.get("name")), [answer])
                case _:
                    yield Text(_string(inner.get("code", inner.get("output"))))


_GEMINI_PARTS = (
    ("inlineData", "inline_data"),
    ("fileData", "file_data"),
    ("functionCall", "function_call"),
    ("functionResponse", "function_response"),
    ("executableCode", "executable_code"),
    ("codeExecutionResult", "code_execution_result"),
)


def _kind(media_type: str) -> str:
    kind = media_type.partition("/")[0]
    return kind if kind in ("image", "audio") else "file"


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
