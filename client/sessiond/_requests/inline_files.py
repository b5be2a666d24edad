"""Files inside messages, and the assets that replace them. No I/O in here."""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote_to_bytes

from sessiond._protocol.file_places import file_places
from sessiond._protocol.json_text import encode
from sessiond._requests.assets import media_type_of
from sessiond._types.asset import URI_PREFIX
from sessiond.errors import invalid_field
from sessiond.v1.message_pb2 import Blob, Message, Part

MIN_BYTES = 256 * 1024

_DATA_URL = re.compile(r"data:([^,]*?)(;base64)?,(.*)", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class InlineFile:
    """A file inside a message."""

    content: bytes
    media_type: str
    asset_id: str
    """SHA-256 of the content in hexadecimal."""
    holder: Any
    """The JSON object, or the Blob, that holds the file."""
    key: str
    """The key of the file in the object. "" = the holder is a Blob."""


def least_bytes(extract_files: object) -> int | None:
    """Return the minimum size of the files to extract, in bytes. None = extract none.

    Raises:
        InvalidField: if the caller's value is neither a bool nor a size.
    """
    if isinstance(extract_files, bool) or extract_files is None:
        return MIN_BYTES if extract_files else None
    if not isinstance(extract_files, int) or extract_files < 1:
        raise invalid_field(
            "extract_files", f"is {extract_files!r}; it must be True, False or a number of bytes"
        )
    return extract_files


def extracted(message: Message, least: int) -> tuple[Message, list[InlineFile]]:
    """Replace the files in a message with references to assets.

    Args:
        message: the message; not modified.
        least: size of the smallest file to extract, in bytes.

    Returns:
        A message that refers to assets instead, and the files to upload before storing it.
    """
    result = Message()
    if message.HasField("parts"):
        result.CopyFrom(message)
        files = list(_files_of_parts(result.parts.parts, least))
        for file in files:
            cast("Blob", file.holder).asset_id = file.asset_id
        return (result if files else message), files
    value = _parsed(message.json) if len(message.json) > least else None
    files = list(_files_of_json(value, message.format, least))
    if not files:
        return message, []
    result.CopyFrom(message)
    result.json = _replaced(message.json, value, files)
    return result, files


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None  # The server refuses it.


def _replaced(text: str, value: Any, files: Iterable[InlineFile]) -> str:
    """Return JSON text with files replaced by references, and otherwise byte for byte the same."""
    found = [(f'"{file.holder[file.key]}"', f'"{URI_PREFIX}{file.asset_id}"') for file in files]
    if all(text.count(old) == found.count((old, new)) for old, new in found):
        for old, new in found:
            text = text.replace(old, new)
        return text
    # A file's text also occurs elsewhere or has escapes, so replacing texts is not enough.
    for file in files:
        file.holder[file.key] = f"{URI_PREFIX}{file.asset_id}"
    return encode(value).decode()


def _files_of_parts(parts: Iterable[Part], least: int) -> Iterator[InlineFile]:
    for part in parts:
        match part.WhichOneof("kind"):
            case "image" | "audio" | "file" as kind:
                blob = getattr(part, kind)
                if len(blob.inline) >= least:
                    yield _file(blob.inline, blob.media_type, blob, "")
            case "tool_result":
                yield from _files_of_parts(part.tool_result.parts, least)


def _files_of_json(value: Any, format: int, least: int) -> Iterator[InlineFile]:
    for holder, key in file_places(value, format):
        text = holder[key]
        # Encoded content is longer than the content itself, so a text shorter than `least` holds a
        # file that is too small. A source of the type "text" is plain text.
        if len(text) >= least and holder.get("type") != "text":
            content, given = _decoded(text, is_url=key.lower().endswith(("url", "uri")))
            if len(content) >= least:
                yield _file(content, given or _media_type_beside(holder), holder, key)


def _media_type_beside(holder: dict[str, Any]) -> str:
    """Return the media type given by an object that holds a file. "" = none."""
    for name in ("media_type", "mimeType", "mime_type"):
        if isinstance(given := holder.get(name), str):
            return given
    match holder:
        case {"type": "image_generation_call"}:
            return "image/png"
        case {"filename": str(name)}:
            return media_type_of(name)
        case {"format": str(name)}:
            return f"audio/{name}"
        case _:
            return ""


def _decoded(text: str, *, is_url: bool) -> tuple[bytes, str]:
    """Return the content and media type of a data URL or of base64. Empty = the text is neither."""
    data, media_type = text, ""
    if text[:5].lower() == "data:":
        if not (match := _DATA_URL.fullmatch(text)):
            return b"", ""
        media_type, data = match[1].partition(";")[0], match[3]
        if not match[2]:
            try:
                return unquote_to_bytes(data), media_type
            except UnicodeEncodeError:
                # A text with half of a surrogate pair is not the content of a file.
                return b"", ""
    elif is_url:
        return b"", ""
    try:
        # Gemini's SDK writes URL-safe base64; some programs wrap lines.
        standard = "".join(data.split()).replace("-", "+").replace("_", "/")
        return base64.b64decode(standard, validate=True), media_type
    except ValueError:
        return b"", ""


def _file(content: bytes, media_type: str, holder: Any, key: str) -> InlineFile:
    return InlineFile(content, media_type, hashlib.sha256(content).hexdigest(), holder, key)
