"""The encoding of a request: stored messages byte for byte, and assets without a copy in memory."""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from sessiond_server.formats.pieces import JSON

# A multiple of 3, so that the base64 of the pieces can be concatenated.
PIECE_BYTES = 3 * 256 * 1024
_MARK = re.compile(rb"\x00(\d+)\x00")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class StoredObject(dict[str, Any]):
    """A stored message that is sent unchanged.

    Attributes:
        raw: the JSON text of the message.
    """

    def __init__(self, value: JSON, raw: str) -> None:
        super().__init__(value)
        self.raw = raw


class AssetString(str):
    """A string of a request that stands for the content of an asset.

    Its str value is the reference "sessiond-asset:ASSET_ID".

    Attributes:
        asset_id: the asset.
        prefix: what precedes the content, such as "data:image/png;base64,".
        is_text: whether the content is sent as text, not as base64.
    """

    asset_id: str
    prefix: str
    is_text: bool

    def __new__(cls, asset_id: str, *, prefix: str = "", is_text: bool = False) -> "AssetString":
        self = super().__new__(cls, f"sessiond-asset:{asset_id}")
        self.asset_id = asset_id
        self.prefix = prefix
        self.is_text = is_text
        return self


class JoinedString(str):
    """A string of a request that consists of texts and of contents of assets; see join().

    Its str value contains a reference to each asset in place of the asset's content.

    Attributes:
        parts: the texts and assets that it consists of.
    """

    parts: tuple[str, ...]

    def __new__(cls, parts: Iterable[str]) -> "JoinedString":
        flat = [inner for part in parts for inner in getattr(part, "parts", (part,))]
        self = super().__new__(cls, "".join(flat))
        self.parts = tuple(flat)
        return self


def join(separator: str, texts: Sequence[str]) -> str:
    """Join strings of a request as str.join() does, but keep the assets among them."""
    if not any(isinstance(text, AssetString | JoinedString) for text in texts):
        return separator.join(texts)
    if len(texts) == 1:
        return texts[0]
    parts = [part for text in texts for part in (separator, text) if part]
    return JoinedString(parts[1:] if separator else parts)


@dataclass(frozen=True, slots=True)
class AssetInfo:
    """The properties of an asset that are known before it is loaded.

    Attributes:
        media_type: the media type. "" = unknown.
        size_bytes: the size of its content.
    """

    media_type: str
    size_bytes: int


def stored_or_new(new: JSON, stored: JSON, raw: str) -> JSON:
    """Return the stored message if the new one equals it, else the new one.

    Args:
        new: the message for the request.
        stored: the parsed stored message.
        raw: the JSON text of the stored message. "" = it cannot be sent as it is stored.
    """
    return StoredObject(new, raw) if raw and new == stored and not _has_assets(new) else new


def has_lone_surrogates(raw: str) -> bool:
    """Whether JSON text contains half of a surrogate pair, as an escape or directly."""
    try:
        raw.encode()
        if _SURROGATE.search(raw):
            orjson.loads(raw)
    except ValueError:
        return True
    return False


def _has_assets(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_assets(item) for item in value.values())
    if isinstance(value, list):
        return any(_has_assets(item) for item in value)
    return isinstance(value, AssetString | JoinedString)


@dataclass(frozen=True, slots=True)
class EncodedRequest:
    """A request's JSON, in pieces.

    Attributes:
        pieces: JSON text in UTF-8, with an AssetString wherever the content of an asset belongs.
            The prefix of the content and the quotation marks are in the text around it.
    """

    pieces: tuple[bytes | AssetString, ...]

    @property
    def assets(self) -> list[AssetString]:
        return [piece for piece in self.pieces if isinstance(piece, AssetString)]

    def size_bytes(self, assets: Mapping[str, AssetInfo]) -> int:
        """Return the size of the request with its assets; for assets sent as text, an estimate."""
        return sum(
            len(piece)
            if isinstance(piece, bytes)
            else _encoded_size(piece, assets[piece.asset_id].size_bytes)
            for piece in self.pieces
        )


def _encoded_size(string: AssetString, size_bytes: int) -> int:
    return size_bytes if string.is_text else 4 * -(-size_bytes // 3)


def encode(body: Mapping[str, Any]) -> EncodedRequest:
    """Encode a request.

    Args:
        body: JSON, which may contain StoredObject, AssetString and JoinedString.

    Raises:
        ValueError: for values that JSON cannot represent.
    """
    assets: list[AssetString] = []

    def inner(part: str) -> bytes:
        if not isinstance(part, AssetString):
            return orjson.dumps(replace_surrogates(part))[1:-1]
        assets.append(part)
        # Encoded JSON contains no NUL, so the place of the asset can be found again.
        return orjson.dumps(part.prefix)[1:-1] + b"\0%d\0" % (len(assets) - 1)

    def special(value: Any) -> Any:
        if isinstance(value, StoredObject):
            return orjson.Fragment(value.raw.encode())
        if isinstance(value, AssetString | JoinedString):
            parts = value.parts if isinstance(value, JoinedString) else (value,)
            return orjson.Fragment(b'"%b"' % b"".join(map(inner, parts)))
        if isinstance(value, dict):
            return dict(value)
        if isinstance(value, str):
            return str(value)
        raise TypeError

    try:
        text = orjson.dumps(body, special, option=orjson.OPT_PASSTHROUGH_SUBCLASS)
    except orjson.JSONEncodeError:
        assets.clear()
        text = orjson.dumps(_encodable(body), special, option=orjson.OPT_PASSTHROUGH_SUBCLASS)
    pieces: list[bytes | AssetString] = []
    end = 0
    for match in _MARK.finditer(text):
        pieces += (text[end : match.start()], assets[int(match[1])])
        end = match.end()
    return EncodedRequest((*pieces, text[end:]))


def _encodable(value: Any) -> Any:
    """Replace values that orjson refuses: lone surrogates, and integers beyond 64 bits."""
    if isinstance(value, StoredObject | AssetString | JoinedString):
        return value
    if isinstance(value, str):
        return replace_surrogates(value)
    if isinstance(value, dict):
        return {replace_surrogates(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return orjson.Fragment(str(value))
    return value


def replace_surrogates(text: str) -> str:
    """Replace lone surrogates, which models do write. A pair of them becomes its character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def base64_pieces(content: bytes) -> Iterator[bytes]:
    """Encode content in pieces, so that other threads do not wait long for the interpreter."""
    for start in range(0, len(content), PIECE_BYTES):
        yield base64.b64encode(content[start : start + PIECE_BYTES])
