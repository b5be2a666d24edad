"""Requests about assets."""

import mimetypes
import os
from typing import TypeGuard

from sessiond._requests.fields import filled
from sessiond.errors import invalid_field
from sessiond.v1.asset_service_pb2 import DownloadAssetRequest, GetAssetRequest, UploadAssetRequest


def is_path(source: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether the source of an upload names a file."""
    return isinstance(source, str | os.PathLike)


def media_type_of(name: str) -> str:
    """What a file's name, or a URL, says about its content. Empty = nothing."""
    guessed, encoding = mimetypes.guess_type(name)
    # Of "a.tar.gz" it would say what is inside.
    return guessed if guessed and not encoding else ""


def upload_asset(
    source: object, *, media_type: str, asset_id: str | None, size: int | None
) -> UploadAssetRequest:
    """The first piece of an upload, without data. The source says what it says of itself."""
    if not media_type and is_path(source):
        media_type = media_type_of(os.fspath(source))
    if size is None and isinstance(source, bytes | bytearray | memoryview):
        size = memoryview(source).nbytes
    return filled(UploadAssetRequest(), media_type=media_type, asset_id=asset_id, size=size)


def download_asset(
    asset_id: str, *, offset: int | None, length: int | None
) -> DownloadAssetRequest:
    if length == 0:
        # To the server it stands for all.
        raise invalid_field("length", "is 0; leave it out to read all")
    return filled(DownloadAssetRequest(), asset_id=asset_id, offset=offset, length=length)


def get_asset(asset_id: str) -> GetAssetRequest:
    return filled(GetAssetRequest(), asset_id=asset_id)
