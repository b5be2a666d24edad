# Generated from _async/_assets.py by scripts/generate-sync-client. Do not edit.
"""`client.assets`: the calls of AssetService."""

import hashlib
import os
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias, cast
from uuid import uuid4

from sessiond._requests import assets as asset_requests
from sessiond._requests.assets import is_path
from sessiond._sync._connection import Connection
from sessiond._sync._lazy import Lazy
from sessiond._sync._streams import asset_pieces
from sessiond._sync._wire import Source, each, run
from sessiond._types.asset import Asset
from sessiond.errors import InternalError
from sessiond.v1.asset_service_pb2 import UploadAssetRequest

# A piece of this size keeps the stream busy without holding much of it in memory.
PIECE_BYTES = 256 * 1024


class _File(Protocol):
    def read(self, size: int, /) -> bytes: ...


AssetSource: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | _File | Source[bytes]
)


class Assets:
    """Files that messages refer to: a message names one by its `asset_id` in a part, or by its `uri` anywhere in a provider's JSON.

    An asset is named by its content, so that the same bytes are stored once. It stays as long as a message refers to it; one that nothing
    refers to is removed, but not within an hour of its last upload (unless the server's operator says otherwise): so upload first, then
    store the message.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def upload(
        self,
        source: AssetSource,
        *,
        media_type: str = "",
        asset_id: str | None = None,
        size: int | None = None,
        timeout: float | None = None,
    ) -> Asset:
        """Store a file. It is sent as it is read, in bounded memory. Nothing is left of an upload that fails.

        Args:
            source: the path of a file; its content; a binary file object; or an iterable of pieces of any size. A path and bytes are sent
                again where the connection breaks; the others can be used up only once, and then the error is raised.
            media_type: the IANA media type, at most 256 characters. Default: what the name of a path says. An asset that is there already
                keeps its own.
            asset_id: the SHA-256 in hexadecimal, where it is known: other content is refused.
            size: in bytes, where it is known: other content is refused. Of a path and of bytes it is.
            timeout: of all attempts. Unit: seconds. Default: none.
        Returns: the asset, also where the project had it already.
        Raises: AssetTooLarge, AssetMismatch, AssetStoreUnavailable; OSError for a file that cannot be read; and whatever iterating over
            `source` raises.
        """
        if size is None and is_path(source):
            size = (run(os.stat, source)).st_size
        first = asset_requests.upload_asset(
            source, media_type=media_type, asset_id=asset_id, size=size
        )
        answer = self._connection.upload(
            self._connection.stubs.assets.UploadAsset,
            lambda: _upload_requests(first, source),
            timeout=timeout,
            is_repeatable=is_path(source) or isinstance(source, bytes | bytearray | memoryview),
        )
        return Asset(answer)

    def get(self, asset_id: str, *, timeout: float | None = None) -> Asset:
        """What is known of an asset. Raises: AssetNotFound."""
        request = asset_requests.get_asset(asset_id)
        return Asset(
            self._connection.call(self._connection.stubs.assets.GetAsset, request, timeout)
        )

    def download(
        self,
        asset_id: str,
        *,
        offset: int | None = None,
        length: int | None = None,
        timeout: float | None = None,
    ) -> Lazy[bytes]:
        """An asset's content in pieces, streamed while they are iterated over. A stream that breaks is opened again where it broke off.

        Args:
            offset: how many bytes to leave out at the beginning. Default: none.
            length: how many bytes to read at the most, at least 1. Default: all.
            timeout: of the whole reading. Unit: seconds. Default: none.
        Returns: a lazy listing; nothing is called before it is iterated over, and then it raises AssetNotFound, AssetStoreUnavailable.
        """
        request = asset_requests.download_asset(asset_id, offset=offset, length=length)
        return Lazy(lambda: asset_pieces(self._connection, request, timeout))

    def read(self, asset_id: str, *, timeout: float | None = None) -> bytes:
        """An asset's content, whole, in memory; compared with its SHA-256. timeout: as in download. Raises: what download raises."""
        pieces = self.download(asset_id, timeout=timeout).to_list()
        content = b"".join(pieces)
        check_content(asset_id, hashlib.sha256(content).hexdigest())
        return content

    def save(
        self, asset_id: str, path: str | os.PathLike[str], *, timeout: float | None = None
    ) -> None:
        """Write an asset's content to a file, in bounded memory. The file has its name only once it is whole, and its SHA-256 is right.

        Args:
            path: of the file. One that is there is replaced.
            timeout: as in download.
        Raises: what download raises; OSError where the file cannot be written.
        """
        target = Path(path)
        unfinished = target.with_name(f".{uuid4().hex}.part")
        digest = hashlib.sha256()
        file = run(_open, unfinished, "xb")
        try:
            try:
                for piece in self.download(asset_id, timeout=timeout):
                    digest.update(piece)
                    run(file.write, piece)
            finally:
                run(file.close)
            check_content(asset_id, digest.hexdigest())
            run(os.replace, unfinished, target)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise


def _open(path: str | os.PathLike[str], mode: str) -> BinaryIO:
    return cast(BinaryIO, Path(path).open(mode))


def check_content(asset_id: str, digest: str) -> None:
    """Compare the SHA-256 of what was downloaded. Raises: InternalError."""
    if digest != asset_id:
        raise InternalError(
            f"what came is not the content of asset {asset_id}: its SHA-256 is {digest}"
        )


def _upload_requests(
    first: UploadAssetRequest, source: AssetSource
) -> Generator[UploadAssetRequest, None]:
    request = UploadAssetRequest()
    request.CopyFrom(first)
    is_first = True
    pieces = _pieces(source)
    try:
        for piece in pieces:
            request.data = piece
            yield request
            request = UploadAssetRequest()
            is_first = False
    finally:
        pieces.close()
    # An empty asset is one piece without data.
    if is_first:
        yield request


def _pieces(source: AssetSource) -> Generator[bytes, None]:
    """The content of a source in pieces of PIECE_BYTES."""
    if isinstance(source, bytes | bytearray | memoryview):
        view = memoryview(source).cast("B")
        for start in range(0, len(view), PIECE_BYTES):
            yield bytes(view[start : start + PIECE_BYTES])
    elif isinstance(source, str | os.PathLike):
        file = run(_open, source, "rb")
        try:
            while data := run(file.read, PIECE_BYTES):
                yield data
        finally:
            file.close()
    elif hasattr(source, "read"):
        while data := run(source.read, PIECE_BYTES):
            yield data
    else:
        # Many small pieces would be many small messages.
        buffer = bytearray()
        for data in each(source):
            buffer += data
            while len(buffer) >= PIECE_BYTES:
                yield bytes(buffer[:PIECE_BYTES])
                del buffer[:PIECE_BYTES]
        if buffer:
            yield bytes(buffer)
