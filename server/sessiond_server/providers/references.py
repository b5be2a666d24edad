"""Finds the assets that a history refers to."""

from collections.abc import Iterator, Sequence

from sessiond.v1.message_pb2 import Message
from sessiond_server.formats.files import ASSET_PREFIX
from sessiond_server.formats.pieces import Media, Piece, Result
from sessiond_server.formats.read import read


def asset_ids_of(messages: Sequence[Message]) -> list[str]:
    """Return the ids of all assets that messages refer to, each once, in order of appearance."""
    return list(
        dict.fromkeys(
            asset_id
            for message in messages
            # Parsing a message costs more than searching for the prefix, which has only one
            # spelling.
            if ASSET_PREFIX in message.json or message.HasField("parts")
            for asset_id in _asset_ids(read(message).pieces)
        )
    )


def _asset_ids(pieces: Sequence[Piece]) -> Iterator[str]:
    for piece in pieces:
        if isinstance(piece, Media) and piece.asset_id:
            yield piece.asset_id
        elif isinstance(piece, Result):
            yield from _asset_ids(piece.pieces)
