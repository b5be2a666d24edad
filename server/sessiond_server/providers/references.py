"""Finds the assets that a history refers to."""

from collections.abc import Iterator, Sequence

from sessiond.v1.message_pb2 import Message
from sessiond_server.formats.asset_places import references
from sessiond_server.formats.files import ASSET_PREFIX
from sessiond_server.formats.parsing import parse
from sessiond_server.formats.pieces import Media, Piece, Result
from sessiond_server.formats.read import read


def asset_ids_of(messages: Sequence[Message]) -> list[str]:
    """Return the ids of all assets that messages refer to, each once, in order of appearance."""
    return list(dict.fromkeys(i for message in messages for i in _asset_ids(message)))


def _asset_ids(message: Message) -> Iterator[str]:
    if message.HasField("parts"):
        yield from _of_pieces(read(message).pieces)
    # Search the text first, because parsing costs more. Only the unescaped prefix is a reference.
    elif ASSET_PREFIX in message.json:
        value = parse(message.json)
        for sha256, _ in references(value, message.format) if isinstance(value, dict) else ():
            yield sha256.hex()


def _of_pieces(pieces: Sequence[Piece]) -> Iterator[str]:
    for piece in pieces:
        if isinstance(piece, Media) and piece.asset_id:
            yield piece.asset_id
        elif isinstance(piece, Result):
            yield from _of_pieces(piece.pieces)
