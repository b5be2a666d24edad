"""Files that messages refer to: assets, data URLs and their media types."""

import base64
import binascii
import re
from contextlib import suppress
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
_ALIASES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/mp3": "audio/mpeg",
    "application/x-pdf": "application/pdf",
}
_FROM_URL_SAFE = str.maketrans("-_", "+/")
# This matches no prose, which contains spaces, and no names, which are shorter.
_BASE64 = re.compile(r"(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9])[A-Za-z0-9+/_-]{1024}")
# The types that are compared with the content of a file.
SHOWN_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf"})
# Number of bytes at the beginning of a file that media_type_of() examines.
MAGIC_BYTES = 16


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
    """Return the file that a provider's JSON contains as base64, or as a reference to an asset."""
    data = string_of(data)
    if parse_data_url(data):
        return at_url(kind, data, media_type=media_type, name=name, source=source)
    media_type = plain_media_type(media_type)
    if asset_id := asset_id_of(data):
        return Media(kind, media_type, asset_id=asset_id, name=name, source=source)
    data = plain_base64(data)
    shown = media_type_of(base64.b64decode(data[:24]), "")
    # Some APIs refuse a picture whose content does not match its declared type.
    if shown and kind_of(media_type) in ("image", "file"):
        media_type = shown
    return Media(kind, media_type, data, name=name, source=source)


def plain_media_type(media_type: str) -> str:
    """Return a media type as all APIs spell it: "image/jpeg" for "image/JPG; q=1"."""
    plain = media_type.partition(";")[0].strip().lower()
    return _ALIASES.get(plain, plain)


def plain_base64(data: str) -> str:
    """Return base64 as all APIs read it: the standard alphabet, with padding, without white space.

    Some SDKs write the URL-safe alphabet.

    Returns:
        "" if the text is not base64.
    """
    with suppress(ValueError):
        binascii.a2b_base64(data, strict_mode=True)
        return _canonical(data)
    plain = "".join(data.split()).rstrip("=").translate(_FROM_URL_SAFE)
    plain += "=" * (-len(plain) % 4)
    with suppress(ValueError):
        binascii.a2b_base64(plain, strict_mode=True)
        return _canonical(plain)
    return ""


def _canonical(data: str) -> str:
    """Return base64 with the unused bits of its last character set to zero."""
    if not data.endswith("="):
        return data
    return data[:-4] + to_base64(base64.b64decode(data[-4:]))


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
        # JSON escapes can spell half of a surrogate pair, which UTF-8 cannot.
        data = to_base64(unquote_to_bytes(data.encode("utf-8", "replace")))
    return media_type, unquote(data) if "%" in data else data


def is_content(text: str) -> bool:
    """Whether a string is the content of a file: a data URL, or at least 1 KiB of base64."""
    if text.startswith("data:"):
        return ";base64," in text[:256]
    return len(text) >= 1024 and bool(_BASE64.match("".join(text[:1100].splitlines())))


def to_base64(content: bytes) -> str:
    """Return content in base64."""
    return base64.b64encode(content).decode()


def as_text(data: str) -> str:
    """Decode plain base64 to text. Bytes that are not UTF-8 are replaced."""
    return base64.b64decode(data).decode(errors="replace")


def media_type_of(content: bytes, given: str) -> str:
    """Return the given media type, or else the type shown by the first bytes. "" = unknown."""
    if given and given != "application/octet-stream":
        return given
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((media_type for magic, media_type in _MAGIC if content.startswith(magic)), given)


def shown_type(content: bytes, given: str) -> str:
    """Return the media type of a file: the given type, unless the content shows another one.

    Models' providers refuse a picture whose content does not have the declared type.

    Args:
        content: the first MAGIC_BYTES of the file.
        given: the declared type.
    """
    return (media_type_of(content, "") if plain_media_type(given) in SHOWN_TYPES else "") or given
