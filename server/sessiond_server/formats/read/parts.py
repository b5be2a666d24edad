"""Reads messages in typed parts."""

from collections.abc import Iterable, Iterator

from sessiond.v1.message_pb2 import Blob, Part
from sessiond_server.formats.files import media_type_of, plain_media_type, to_base64
from sessiond_server.formats.pieces import Call, Foreign, Media, Piece, Result, Text, Thinking


def read(parts: Iterable[Part]) -> list[Piece]:
    """Split typed parts into pieces."""
    return [piece for part in parts for piece in _read(part)]


def _read(part: Part) -> Iterator[Piece]:
    match part.WhichOneof("kind"):
        case "text":
            yield Text(part.text)
        case "data":
            yield Text(part.data)
        case "image" | "audio" | "file" as kind:
            yield _media(kind, getattr(part, kind))
        case "tool_call":
            call = part.tool_call
            yield Call(call.call_id, call.name, call.arguments_json or "{}")
        case "tool_result":
            result = part.tool_result
            inner = [
                piece for piece in read(result.parts) if isinstance(piece, Text | Media | Foreign)
            ]
            yield Result(result.call_id, "", inner, result.is_error)
        case "reasoning":
            yield Thinking(
                part.reasoning.text,
                part.reasoning.signature.decode("latin-1"),
                part.reasoning.format,
            )
        case kind:
            yield Foreign(kind or "part", "")


def _media(kind: str, blob: Blob) -> Media:
    media_type = plain_media_type(blob.media_type)
    match blob.WhichOneof("source"):
        case "inline":
            media_type = media_type_of(blob.inline, media_type)
            return Media(kind, media_type, to_base64(blob.inline), name=blob.name)
        case "asset_id":
            return Media(kind, media_type, asset_id=blob.asset_id, name=blob.name)
        case _:
            return Media(kind, media_type, uri=blob.uri, name=blob.name)
