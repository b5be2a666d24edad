"""Files that messages refer to: assets, data URLs, and what type a content is."""

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


class Assets:
    """The contents of assets. What is not here yet is noted, and answered empty: see with_assets()."""

    def __init__(self) -> None:
        self._contents: dict[str, AssetContent] = {}
        self._wanted: dict[str, None] = {}

    def get(self, asset_id: str) -> AssetContent:
        if asset_id not in self._contents:
            self._wanted[asset_id] = None
        return self._contents.get(asset_id, AssetContent(b"", ""))

    async def load(self, load_asset: LoadAsset) -> bool:
        """Admission what was asked for in vain. Answers whether there was any."""
        wanted, self._wanted = self._wanted, {}
        for asset_id in wanted:
            self._contents[asset_id] = await load_asset(asset_id)
        return bool(wanted)


async def with_assets(convert: Callable[[Assets], T], load_asset: LoadAsset) -> T:
    """What convert makes once it has the assets that it asks for: a second time, where it asks for any.

    Raises: what load_asset raises.
    """
    assets = Assets()
    result = convert(assets)
    if await assets.load(load_asset):
        result = convert(assets)
    return result


def asset_id_of(reference: object) -> str | None:
    """The asset that a string of a provider's JSON names. None = it names none."""
    if isinstance(reference, str) and (match := _ASSET_REFERENCE.fullmatch(reference)):
        return match[1]
    return None


def parse_data_url(url: str) -> tuple[str, str] | None:
    """Media type and base64 of a data URL. None = it is not one."""
    if not url.startswith("data:") or not (match := _DATA_URL.fullmatch(url)):
        return None
    media_type, encoded, data = match[1].split(";")[0], match[2], match[3]
    return media_type, data if encoded else to_base64(unquote_to_bytes(data))


def data_url(media_type: str, data: str) -> str:
    return f"data:{media_type or 'application/octet-stream'};base64,{data}"


def to_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def as_text(data: str) -> str:
    """The text that is in base64; what is not UTF-8 is replaced."""
    try:
        return base64.b64decode(data).decode(errors="replace")
    except ValueError:
        return ""


def media_type_of(content: bytes, given: str) -> str:
    """The media type of a content: the one given, else what its first bytes say. "" = unknown."""
    if given and given != "application/octet-stream":
        return given
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((media_type for magic, media_type in _MAGIC if content.startswith(magic)), given)
