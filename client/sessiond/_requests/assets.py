"""Requests about assets."""

import mimetypes
import os
from typing import TypeGuard

from sessiond._requests.fields import filled
from sessiond.errors import invalid_field
from sessiond.v1.asset_service_pb2 import DownloadAssetRequest, UploadAssetRequest


def is_path(source: object) -> TypeGuard[str | os.PathLike[str]]:
    """Return whether the source of an upload is a path."""
    return isinstance(source, str | os.PathLike)


def media_type_of(name: str) -> str:
    """Return the media type that the name of a file or a URL stands for. "" = unknown."""
    guessed, encoding = mimetypes.guess_type(name)
    # For "a.tar.gz" the guess is the type of the content.
    return guessed if guessed and not encoding else ""


def upload_asset(
    source: object, *, media_type: str, asset_id: str | None, size: int | None
) -> UploadAssetRequest:
    """Return the first request of an upload, without data.

    A missing media type or size is taken from the source if that is possible.
    """
    if not media_type and is_path(source):
        media_type = media_type_of(os.fspath(source))
    if size is None and isinstance(source, bytes | bytearray | memoryview):
        size = memoryview(source).nbytes
    return filled(UploadAssetRequest(), media_type=media_type, asset_id=asset_id, size=size)


def download_asset(
    asset_id: str, *, offset: int | None = None, length: int | None = None
) -> DownloadAssetRequest:
    if length == 0:
        # The server takes it for "all".
        raise invalid_field("length", "is 0; leave it out to read all")
    return filled(DownloadAssetRequest(), asset_id=asset_id, offset=offset, length=length)
