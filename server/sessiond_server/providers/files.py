"""Files that messages refer to: assets, data URLs and their media types."""

import base64
import re
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from sessiond_server.providers.base import AssetContent, LoadAsset

T = TypeVar("T")

ASSET_PREFIX = "sessiond-asset:"
_ASSET_REFERENCE = re.compile(ASSET_PREFIX + "([0-9a-f]{64})")
_DATA_URL = re.compile(r"data:([^,]*?)(;base64)?,(.*)", re.DOTALL)
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"),
)


class AssetContents:
    """Contents of assets. A missing one is recorded and comes out empty: see with_assets()."""

    def __init__(self) -> None:
        self._contents: dict[str, AssetContent] = {}
        self._missing: dict[str, None] = {}

    def get(self, asset_id: str) -> AssetContent:
        if asset_id not in self._contents:
            self._missing[asset_id] = None
        return self._contents.get(asset_id, AssetContent(b"", ""))

    async def load(self, load_asset: LoadAsset) -> bool:
        """Load the missing contents.

        Returns:
            Whether any was missing.
        """
        missing, self._missing = self._missing, {}
        for asset_id in missing:
            self._contents[asset_id] = await load_asset(asset_id)
        return bool(missing)


async def with_assets(convert: Callable[[AssetContents], T], load_asset: LoadAsset) -> T:
    """Convert with the assets that the conversion uses.

    Args:
        convert: a pure function. It runs once to find the assets, and again if there are any.
        load_asset: loads an asset. Its exceptions are passed on.
    """
    assets = AssetContents()
    result = convert(assets)
    if await assets.load(load_asset):
        result = convert(assets)
    return result


def asset_id_of(reference: object) -> str | None:
    """Return the id of the asset that a string of a provider's JSON refers to, if any."""
    if isinstance(reference, str) and (match := _ASSET_REFERENCE.fullmatch(reference)):
        return match[1]
    return None


def parse_data_url(url: str) -> tuple[str, str] | None:
    """Return the media type and the base64 of a data URL. None for any other string."""
    if not url.startswith("data:") or not (match := _DATA_URL.fullmatch(url)):
        return None
    media_type, encoded, data = match[1].split(";")[0], match[2], match[3]
    return media_type, data if encoded else to_base64(unquote_to_bytes(data))


def data_url(media_type: str, data: str) -> str:
    return f"data:{media_type or 'application/octet-stream'};base64,{data}"


def to_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def as_text(data: str) -> str:
    """Decode base64 text. Bytes that are not UTF-8 are replaced."""
    try:
        return base64.b64decode(data).decode(errors="replace")
    except ValueError:
        return ""


def media_type_of(content: bytes, given: str) -> str:
    """Return the given media type, or else the one of the first bytes. "" = unknown."""
    if given and given != "application/octet-stream":
        return given
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((media_type for magic, media_type in _MAGIC if content.startswith(magic)), given)
