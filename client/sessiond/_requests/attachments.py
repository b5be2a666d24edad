"""Attachments of a prompt, as the caller gives them. No I/O in here."""

import base64
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from sessiond._protocol.checks import path_of
from sessiond._requests.assets import media_type_of
from sessiond._types.asset import URI_PREFIX
from sessiond.errors import invalid_field
from sessiond.v1.message_pb2 import Blob, Part

AttachmentInput: TypeAlias = str | os.PathLike[str] | tuple[bytes, str] | Mapping[str, Any]
"""The path of a file; a URL; (content, media type); or a dict with one of "path", "data" (bytes, or
base64), "uri" and "asset_id", and optionally "media_type" and "name".
"""

_SOURCES = ("path", "data", "uri", "asset_id")
_KEYS = (*_SOURCES, "media_type", "name", "type")
_SPELLINGS = {
    "url": "uri",
    "assetId": "asset_id",
    "mediaType": "media_type",
    "mime_type": "media_type",
    "mimeType": "media_type",
    "display_name": "name",
    "displayName": "name",
}
_TYPES = ("file", "blob", "image", "audio", "url", "uri", "asset")
# A scheme of one letter is the drive letter of a path, not a URL.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|data:")


@dataclass(frozen=True, slots=True)
class Attachment:
    """One file, with exactly one of path, data, uri and asset_id.

    Attributes:
        place: the field of the call, for errors.
        path: path of the file.
        data: content of the file.
        uri: address of the file.
        asset_id: id of the asset that holds the file.
        media_type: the IANA media type. "" = unknown.
        name: name of the file. "" = none.
    """

    place: str
    path: str | None = None
    data: bytes | None = None
    uri: str | None = None
    asset_id: str | None = None
    media_type: str = ""
    name: str = ""

    def part(
        self, media_type: str, *, inline: bytes | None = None, asset_id: str | None = None
    ) -> Part:
        """Return the part of a message that holds the file, or refers to it.

        Args:
            media_type: the IANA media type, which decides the kind of the part.
            inline: the content, if the part should contain it.
            asset_id: id of the asset, if the file was uploaded.

        Raises:
            InvalidField: if a value cannot be sent.
        """
        try:
            blob = Blob(media_type=media_type, name=self.name)
            if inline is not None:
                blob.inline = inline
            elif self.uri is not None:
                blob.uri = self.uri
            else:
                blob.asset_id = asset_id or self.asset_id or ""
        except (TypeError, ValueError) as error:
            raise invalid_field(self.place, f"cannot be sent: {error}") from None
        match media_type.partition("/")[0]:
            case "image":
                return Part(image=blob)
            case "audio":
                return Part(audio=blob)
            case _:
                return Part(file=blob)


def attachments_of(given: object) -> list[Attachment]:
    """Return the attachments that a caller gave.

    Raises:
        InvalidField: if an attachment is malformed.
    """
    if given is None:
        return []
    if not isinstance(given, list | tuple):
        raise invalid_field("attachments", f"must be a list, not {type(given).__name__}")
    return [_attachment(value, f"attachments[{i}]") for i, value in enumerate(given)]


def _attachment(value: object, place: str) -> Attachment:
    match value:
        case str() if value.startswith(URI_PREFIX):
            return Attachment(place, asset_id=value.removeprefix(URI_PREFIX))
        case str() if _URL.match(value):
            return _of_dict({"uri": value}, place)
        case str() | os.PathLike():
            return _of_dict({"path": value}, place)
        case (bytes() as data, str() as media_type):
            return _of_dict({"data": data, "media_type": media_type}, place)
        case Mapping():
            return _of_dict(value, place)
        case bytes() | bytearray():
            raise invalid_field(place, 'needs a media type: give (content, "image/png"), or a dict')
        case _:
            raise invalid_field(
                place,
                f"is of type {type(value).__name__}; it must be a path, a URL,"
                " (content, media type) or a dict",
            )


def _of_dict(given: Mapping[Any, Any], place: str) -> Attachment:
    values: dict[str, Any] = {}
    for key, value in given.items():
        name = _SPELLINGS.get(key, key)
        if name not in _KEYS:
            raise invalid_field(
                f"{place}.{key}", f"is not known; a dict may have {', '.join(_KEYS)}"
            )
        if value is not None:
            values[name] = value
    if (kind := values.pop("type", "file")) not in _TYPES:
        raise invalid_field(f"{place}.type", f"is {kind!r}; it must be one of {', '.join(_TYPES)}")
    if len(sources := [name for name in _SOURCES if name in values]) != 1:
        raise invalid_field(place, f"needs exactly one of {', '.join(_SOURCES)}")
    for name in ("media_type", "name", "uri", "asset_id"):
        if not isinstance(values.get(name, ""), str):
            raise invalid_field(
                f"{place}.{name}", f"must be a string, not {type(values[name]).__name__}"
            )
    if sources == ["data"]:
        values["data"] = _content(values["data"], f"{place}.data")
    elif sources == ["path"]:
        values["path"] = path_of(values["path"], f"{place}.path")
        values.setdefault("name", Path(values["path"]).name)
    name = values.get("path") or values.get("uri") or values.get("name") or ""
    values.setdefault("media_type", media_type_of(name))
    return Attachment(place, **values)


def _content(value: object, place: str) -> bytes:
    match value:
        case bytes() | bytearray() | memoryview():
            return bytes(value)
        case str():
            try:
                return base64.b64decode(value, validate=True)
            except ValueError as error:
                raise invalid_field(place, f"is not base64: {error}") from None
        case _:
            raise invalid_field(place, f"must be bytes, or base64, not {type(value).__name__}")
