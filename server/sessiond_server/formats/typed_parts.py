"""Writes a message of any format as typed parts, for clients without support for formats."""

import binascii
from base64 import b64decode
from collections.abc import Iterable

from sessiond.v1.message_pb2 import Blob, Part, Reasoning, ToolCall, ToolResult
from sessiond_server.formats.parsing import dumps
from sessiond_server.formats.pieces import (
    Call,
    Foreign,
    Media,
    Piece,
    Result,
    Text,
    Thinking,
)


def typed_parts(pieces: Iterable[Piece]) -> list[Part]:
    """Return the pieces of a message as typed parts, one for each.

    A piece that fits no type, such as a call that the provider ran itself, becomes `data`: the
    block of the stored message.
    """
    return [_part(piece) for piece in pieces]


def _part(piece: Piece) -> Part:
    match piece:
        case Text():
            return Part(text=piece.text)
        case Media():
            return _media(piece)
        case Call():
            # arguments_json must be JSON, so free text becomes a JSON string.
            arguments = dumps(piece.arguments) if piece.is_custom else piece.arguments
            return Part(
                tool_call=ToolCall(call_id=piece.call_id, name=piece.name, arguments_json=arguments)
            )
        case Result():
            return Part(
                tool_result=ToolResult(
                    call_id=piece.call_id,
                    parts=typed_parts(piece.pieces),
                    is_error=piece.is_error,
                )
            )
        case Thinking():
            return Part(
                reasoning=Reasoning(
                    text=piece.text,
                    # A signature that was read from typed parts is bytes decoded as Latin-1. All
                    # other signatures are ASCII.
                    signature=piece.signature.encode("latin-1", "replace"),
                    format=piece.maker,
                )
            )
        case Foreign():
            return Part(data=dumps(piece.source or {"type": piece.kind, "text": piece.text}))


def _media(media: Media) -> Part:
    blob = Blob(media_type=media.media_type, name=media.name)
    if media.data:
        try:
            blob.inline = b64decode(media.data, validate=True)
        except (binascii.Error, ValueError):
            return Part(data=dumps(media.source or {"type": media.kind, "data": media.data}))
    elif media.asset_id:
        blob.asset_id = media.asset_id
    elif media.uri:
        blob.uri = media.uri
    else:
        return Part(data=dumps(media.source or {"type": media.kind, "file_id": media.file_id}))
    match media.kind:
        case "image":
            return Part(image=blob)
        case "audio":
            return Part(audio=blob)
        case _:
            return Part(file=blob)
