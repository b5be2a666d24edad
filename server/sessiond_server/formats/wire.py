"""The encoding of a request: stored messages byte for byte, and assets without a copy in memory."""

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from sessiond_server.formats.pieces import JSON

# A multiple of 3, so that the base64 of the pieces can be concatenated.
PIECE_BYTES = 3 * 256 * 1024
_MARK = re.compile(rb'"\x00(\d+)\x00"')
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class StoredObject(dict[str, Any]):
    """A stored message that is sent unchanged.

    Attributes:
        raw: its JSON text.
    """

    def __init__(self, value: JSON, raw: str) -> None:
        super().__init__(value)
        self.raw = raw


class AssetString(str):
    """A string of a request that contains the content of an asset.

    As a str it is the reference "sessiond-asset:ASSET_ID".

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
    """Return the stored message if the new one equals it and it can be sent, else the new one.

    All APIs refuse lone surrogates, which JSON text can express only as escapes.
    """
    if new != stored or _has_assets(new) or has_lone_surrogates(raw):
        return new
    return StoredObject(new, raw)


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
    return isinstance(value, AssetString)


@dataclass(frozen=True, slots=True)
class EncodedRequest:
    """A request's JSON, in pieces.

    Attributes:
        pieces: JSON text in UTF-8, with the assets in between.
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
    return 2 + len(string.prefix) + (size_bytes if string.is_text else 4 * -(-size_bytes // 3))


def encode(body: Mapping[str, Any]) -> EncodedRequest:
    """Encode a request.

    Args:
        body: JSON, which may contain StoredObject and AssetString.

    Raises:
        ValueError: for values that JSON cannot represent.
    """
    assets: list[AssetString] = []

    def special(value: Any) -> Any:
        if isinstance(value, StoredObject):
            return orjson.Fragment(value.raw.encode())
        if isinstance(value, AssetString):
            assets.append(value)
            # No other JSON contains NUL, so the place can be found again.
            return orjson.Fragment(f'"\0{len(assets) - 1}\0"')
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
    """Replace what orjson refuses: lone surrogates, and integers beyond 64 bits (by fragments)."""
    if isinstance(value, StoredObject | AssetString):
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
    """Replace lone surrogates, which models do write. Two halves of a pair become the character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def base64_pieces(content: bytes) -> Iterator[bytes]:
    """Encode content in pieces, so that other threads do not wait long for the interpreter."""
    for start in range(0, len(content), PIECE_BYTES):
        yield base64.b64encode(content[start : start + PIECE_BYTES])
