"""Requests about assets."""

import mimetypes
import os
from collections.abc import AsyncIterable, Iterable
from typing import TypeGuard

from sessiond._protocol.checks import path_of
from sessiond._requests.fields import filled
from sessiond.errors import invalid_field
from sessiond.v1.asset_service_pb2 import DownloadAssetRequest, UploadAssetRequest


def is_path(source: object) -> TypeGuard[str | os.PathLike[str]]:
    """Return whether the source of an upload is a path.

    Raises:
        InvalidField: if the source is a path that no file can have.
    """
    return isinstance(source, str | os.PathLike) and bool(path_of(source, "source"))


def media_type_of(name: str) -> str:
    """Return the media type for the name of a file or a URL. "" = unknown."""
    guessed, encoding = mimetypes.guess_type(name)
    # For "a.tar.gz", the guessed type is that of the uncompressed content.
    return guessed if guessed and not encoding else ""


def upload_asset(
    source: object, *, media_type: str, asset_id: str | None, size: int | None
) -> UploadAssetRequest:
    """Return the first request of an upload, without data.

    A missing media type or size is derived from the source if possible.
    """
    if not media_type and is_path(source):
        media_type = media_type_of(os.fspath(source))
    if isinstance(source, bytes | bytearray | memoryview):
        size = memoryview(source).nbytes if size is None else size
    elif not hasattr(source, "read") and not isinstance(
        source, str | os.PathLike | Iterable | AsyncIterable
    ):
        raise invalid_field(
            "source", f"must be a path, bytes, a file or pieces, not {type(source).__name__}"
        )
    return filled(UploadAssetRequest(), media_type=media_type, asset_id=asset_id, size=size)


def piece_of(data: object) -> bytes:
    """Return a piece of a source as bytes. Refuse a number: bytes(5) would be five zero bytes.

    Raises:
        InvalidField: if the piece is not bytes.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise invalid_field("source", f"gives {type(data).__name__}; it must give bytes")
    return bytes(data)


def download_asset(
    asset_id: str, *, offset: int | None = None, length: int | None = None
) -> DownloadAssetRequest:
    if length == 0:
        # The server would interpret 0 as "all".
        raise invalid_field("length", "is 0; leave it out to read all")
    return filled(DownloadAssetRequest(), asset_id=asset_id, offset=offset, length=length)
