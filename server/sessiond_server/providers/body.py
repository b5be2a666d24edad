"""The body of a request, sent in chunks; its size is known before any asset is loaded.

No step encodes more than one piece, so that neither the event loop nor another thread waits long. A
request with large assets needs no more memory than one piece of an asset.
"""

import base64
import codecs
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing

import orjson

from sessiond_server.formats.pieces import JSON
from sessiond_server.formats.wire import AssetInfo, AssetString, base64_pieces, encode
from sessiond_server.providers.base import LoadAsset

CHUNK_BYTES = 256 * 1024


class AssetChanged(Exception):
    """The size of an asset differs from its description.

    Attributes:
        asset_id: the asset.
    """

    def __init__(self, asset_id: str) -> None:
        super().__init__(asset_id)
        self.asset_id = asset_id


class RequestBody:
    """The JSON of a request, as an iterable of chunks. Each iteration starts from the beginning.

    Args:
        pieces: encoded JSON, with the assets in between.
        assets: the properties of the assets.
        load_asset: loads the content of an asset.

    Attributes:
        error: the error that stopped the last iteration; the HTTP client wraps it in its own
            exception.
    """

    def __init__(
        self,
        pieces: Sequence[bytes | AssetString],
        assets: Mapping[str, AssetInfo],
        load_asset: LoadAsset,
    ) -> None:
        self.error: Exception | None = None
        self._pieces = pieces
        self._assets = assets
        self._load_asset = load_asset
        self._texts: dict[str, Sequence[bytes]] = {}

    @property
    def asset_bytes(self) -> int:
        """The part of size_bytes that is content of assets."""
        return sum(self._size(piece) for piece in self._pieces if isinstance(piece, AssetString))

    @property
    def size_bytes(self) -> int:
        """The size in bytes; it is an estimate until load_texts() has run."""
        return sum(
            len(piece) if isinstance(piece, bytes) else self._size(piece) for piece in self._pieces
        )

    def with_notes(self) -> str:
        """Return the JSON text, with a note in the place of each asset's content."""
        return b"".join(
            piece if isinstance(piece, bytes) else f"[content of asset {piece.asset_id}]".encode()
            for piece in self._pieces
        ).decode()

    async def load_texts(self) -> bool:
        """Load the assets that are sent as text, because the size of their JSON is unknown before.

        Returns:
            Whether there are any such assets.
        """
        for piece in self._pieces:
            if isinstance(piece, AssetString) and piece.is_text:
                self._texts[piece.asset_id] = self._texts.get(piece.asset_id) or await self._text(
                    piece.asset_id
                )
        return bool(self._texts)

    @property
    def content(self) -> "bytes | RequestBody":
        """The content for the HTTP client: bytes if the body is small, or else this iterable."""
        is_small = all(isinstance(piece, bytes) for piece in self._pieces)
        if is_small and self.size_bytes <= CHUNK_BYTES:
            return b"".join(piece for piece in self._pieces if isinstance(piece, bytes))
        return self

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.error = None
        try:
            async with aclosing(self._chunks()) as chunks:
                async for chunk in chunks:
                    yield chunk
        except Exception as e:
            self.error = e
            raise

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        uses = Counter(piece.asset_id for piece in self._pieces if isinstance(piece, AssetString))
        # The encoded contents of assets that occur again further on, because each asset is loaded
        # and encoded only once.
        kept: dict[str, list[bytes]] = {}
        for piece in self._pieces:
            if isinstance(piece, bytes):
                for start in range(0, len(piece), CHUNK_BYTES):
                    yield piece[start : start + CHUNK_BYTES]
                continue
            uses[piece.asset_id] -= 1
            if piece.is_text:
                for chunk in self._texts[piece.asset_id]:
                    yield chunk
            elif piece.asset_id in kept:
                for chunk in kept[piece.asset_id]:
                    yield chunk
            else:
                chunks: list[bytes] = []
                async for chunk in self._base64(piece.asset_id):
                    if uses[piece.asset_id]:
                        chunks.append(chunk)
                    yield chunk
                kept[piece.asset_id] = chunks
            if not uses[piece.asset_id]:
                kept.pop(piece.asset_id, None)

    async def _text(self, asset_id: str) -> list[bytes]:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        async with aclosing(self._content(asset_id)) as pieces:
            texts = [decoder.decode(piece) async for piece in pieces]
        return [_json_of(text) for text in (*texts, decoder.decode(b"", final=True))]

    async def _base64(self, asset_id: str) -> AsyncGenerator[bytes, None]:
        rest = b""
        async with aclosing(self._content(asset_id)) as pieces:
            async for piece in pieces:
                joined = rest + piece
                end = len(joined) - len(joined) % 3
                rest = joined[end:]
                for encoded in base64_pieces(joined[:end]):
                    yield encoded
        if rest:
            yield base64.b64encode(rest)

    async def _content(self, asset_id: str) -> AsyncGenerator[bytes, None]:
        """Load an asset.

        Raises:
            AssetChanged: if its size differs from the description.
        """
        missing = self._assets[asset_id].size_bytes
        async with aclosing(self._load_asset(asset_id)) as pieces:
            async for piece in pieces:
                missing -= len(piece)
                if missing < 0:
                    break
                yield piece
        if missing:
            raise AssetChanged(asset_id)

    def _size(self, piece: AssetString) -> int:
        if piece.asset_id in self._texts and piece.is_text:
            return sum(map(len, self._texts[piece.asset_id]))
        size_bytes = self._assets[piece.asset_id].size_bytes
        return size_bytes if piece.is_text else 4 * -(-size_bytes // 3)


def encode_body(
    fields: JSON, key: str, messages: Sequence[bytes | AssetString]
) -> list[bytes | AssetString]:
    """Encode a request.

    Args:
        fields: all fields except the messages.
        key: name of the field that holds the messages.
        messages: the encoded messages; see encode_messages().
    """
    head = encode(fields).pieces
    last = head[-1]
    assert isinstance(last, bytes)  # noqa: S101
    comma = b"," if fields else b""
    return [*head[:-1], last[:-1] + comma + orjson.dumps(key) + b":[", *messages, b"]}"]


def encode_messages(messages: Sequence[JSON]) -> list[bytes | AssetString]:
    """Encode messages one by one, which blocks other threads less than encoding all at once."""
    pieces: list[bytes | AssetString] = []
    text = bytearray()
    for i, message in enumerate(messages):
        if i:
            text += b","
        for piece in encode(message).pieces:
            if isinstance(piece, bytes):
                text += piece
            else:
                pieces += (bytes(text), piece)
                text.clear()
        if len(text) >= CHUNK_BYTES:
            pieces.append(bytes(text))
            text.clear()
    return [*pieces, bytes(text)]


def _json_of(text: str) -> bytes:
    return orjson.dumps(text)[1:-1]
