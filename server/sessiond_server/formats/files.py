"""Files that messages refer to: assets, data URLs and their media types."""

import base64
import binascii
import re
from urllib.parse import unquote, unquote_to_bytes

from sessiond_server.formats.pieces import JSON, Media, string_of

ASSET_PREFIX = "sessiond-asset:"
_ASSET_REFERENCE = re.compile(ASSET_PREFIX + "([0-9a-f]{64})")
_DATA_URL = re.compile(r"data:([^,]*?)(;base64)?,(.*)", re.DOTALL)
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"),
)
# Spellings of media types that programs use instead of the registered ones.
_ALIASES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/mp3": "audio/mpeg",
    "application/x-pdf": "application/pdf",
}
# Characters by which the URL-safe alphabet differs, and those that line breaks add.
_TO_STANDARD = str.maketrans("-_", "+/", " \t\r\n")
# Text contains spaces, and names are not that long.
_BASE64 = re.compile(r"(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9])[A-Za-z0-9+/_-]{1024}")
# Number of bytes at the beginning of a file that media_type_of() examines.
MAGIC_BYTES = 16
# The same in base64.
MAGIC_CHARACTERS = 24


def asset_id_of(reference: object) -> str:
    """Return the id of the asset that a string in a provider's JSON refers to; "" = none."""
    if isinstance(reference, str) and (match := _ASSET_REFERENCE.fullmatch(reference)):
        return match[1]
    return ""


def at_url(kind: str, url: object, *, media_type: str, name: str, source: JSON) -> Media:
    """Return the file that a provider's JSON refers to by URL, data URL or asset."""
    url = string_of(url)
    if parsed := parse_data_url(url):
        media_type, data = media_type or parsed[0], parsed[1]
        return inline(kind, data, media_type=media_type, name=name, source=source)
    media_type = plain_media_type(media_type)
    if asset_id := asset_id_of(url):
        return Media(kind, media_type, asset_id=asset_id, name=name, source=source)
    return Media(kind, media_type, uri=url, name=name, source=source)


def inline(kind: str, data: object, *, media_type: str, name: str, source: JSON) -> Media:
    """Return the file that a provider's JSON contains as base64, or the asset in its place."""
    data = string_of(data)
    if parse_data_url(data):
        return at_url(kind, data, media_type=media_type, name=name, source=source)
    media_type = plain_media_type(media_type)
    if asset_id := asset_id_of(data):
        return Media(kind, media_type, asset_id=asset_id, name=name, source=source)
    data = standard_base64(data)
    shown = shown_type(first_bytes(data))
    # Some APIs refuse a picture whose content is not of the type that is given.
    if shown and kind_of(media_type) in ("image", "file"):
        media_type = shown
    return Media(kind, media_type, data, name=name, source=source)


def kind_of(media_type: str) -> str:
    """Return the kind of a file: "image", "audio", "video" or "file"."""
    kind = media_type.partition("/")[0]
    return kind if kind in ("image", "audio", "video") else "file"


def parse_data_url(url: str) -> tuple[str, str] | None:
    """Return the media type and the base64 of a data URL. None for any other string."""
    if not url.startswith("data:") or not (match := _DATA_URL.fullmatch(url)):
        return None
    media_type, encoded, data = match[1].split(";")[0], match[2], match[3]
    if not encoded:
        data = to_base64(unquote_to_bytes(data))
    return media_type, unquote(data) if "%" in data else data


def is_content(text: str) -> bool:
    """Whether a string is the content of a file: a data URL, or at least 1 KiB of base64."""
    if text.startswith("data:"):
        return ";base64," in text[:256]
    return len(text) >= 1024 and bool(_BASE64.match("".join(text[:1100].splitlines())))


def data_url(media_type: str, data: str) -> str:
    """Return a data URL with content in base64."""
    return f"data:{media_type or 'application/octet-stream'};base64,{data}"


def to_base64(content: bytes) -> str:
    """Return content in base64."""
    return base64.b64encode(content).decode()


def as_text(data: str) -> str:
    """Decode plain base64 to text. Bytes that are not UTF-8 are replaced."""
    return base64.b64decode(data).decode(errors="replace")


def standard_base64(data: str) -> str:
    """Return base64 in the standard alphabet, padded and in one line. "" = it is not base64.

    Args:
        data: base64 of either alphabet, or a data URL with it.
    """
    if data.startswith("data:") and (parsed := parse_data_url(data)):
        data = parsed[1]
    if _is_base64(data):
        return data
    data = data.translate(_TO_STANDARD).rstrip("=")
    data += "=" * (-len(data) % 4)
    return data if _is_base64(data) else ""


def _is_base64(data: str) -> bool:
    try:
        return bool(binascii.a2b_base64(data, strict_mode=True))
    except ValueError:
        return False


def first_bytes(data: str) -> bytes:
    """Return the first bytes of standard base64, enough for shown_type()."""
    return base64.b64decode(data[:MAGIC_CHARACTERS])


def shown_type(content: bytes) -> str:
    """Return the media type that the first bytes of a file show. "" = unknown."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((media_type for magic, media_type in _MAGIC if content.startswith(magic)), "")


def plain_media_type(given: str) -> str:
    """Return a media type in its registered spelling, without parameters."""
    plain = given.partition(";")[0].strip().lower()
    return _ALIASES.get(plain, plain)


def media_type_of(content: bytes, given: str) -> str:
    """Return the given media type, or else the type shown by the first bytes. "" = unknown."""
    if given and given != "application/octet-stream":
        return given
    return shown_type(content) or given
