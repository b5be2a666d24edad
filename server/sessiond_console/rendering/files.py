"""Files in messages: references to assets, inline content, and addresses elsewhere."""

import base64
import binascii
import re

from sessiond_console.rendering.blocks import Block, File

ASSET_PREFIX = "sessiond-asset:"
_ASSET_ID = re.compile(r"[0-9a-f]{64}")

# The first bytes of the image types that pages show. Every other file is a download, because an SVG
# or HTML file could run scripts.
_IMAGE_BYTES = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
}


def image_type(content: bytes) -> str:
    """Return the media type of a PNG, JPEG, GIF or WebP by its first bytes; "" for others."""
    for media_type, start in _IMAGE_BYTES.items():
        if content.startswith(start) and (start != b"RIFF" or content[8:12] == b"WEBP"):
            return media_type
    return ""


def is_asset_id(text: str) -> bool:
    """Return whether a text has the form of an asset's id."""
    return _ASSET_ID.fullmatch(text) is not None


def file_block(file: File) -> Block:
    """Return the block of a file."""
    return Block("file", file=file)


def from_data_url(kind: str, uri: str, *, media_type: str = "", name: str = "") -> File:
    """Return the file that a URI names: an asset, a data URL, or a file elsewhere."""
    if uri.startswith(ASSET_PREFIX):
        return File(kind, media_type, name, asset_id=uri.removeprefix(ASSET_PREFIX))
    if uri.startswith("data:"):
        head, _, data = uri[5:].partition(",")
        return File(kind, head.partition(";")[0] or media_type, name, data=data)
    return File(kind, media_type, name, uri=uri)


def from_base64(kind: str, data: str, *, media_type: str = "", name: str = "") -> File:
    """Return the file of base64 content, which may be a reference to an asset instead."""
    if data.startswith(ASSET_PREFIX):
        return from_data_url(kind, data, media_type=media_type, name=name)
    return File(kind, media_type, name, data=data)


def content_of(file: File) -> bytes:
    """Return the content of an inline file; b"" if it is not base64."""
    try:
        return base64.b64decode(file.data.encode("ascii"), altchars=None)
    except (binascii.Error, UnicodeEncodeError, ValueError):
        return b""
