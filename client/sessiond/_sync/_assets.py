# Generated from _async/_assets.py by scripts/generate-sync-client. Do not edit.
"""`client.assets`: the calls of AssetService."""

import hashlib
import os
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias, cast
from uuid import uuid4

from sessiond._protocol.checks import path_of
from sessiond._requests import assets as asset_requests
from sessiond._requests.assets import is_path
from sessiond._requests.fields import filled
from sessiond._sync._connection import Calls
from sessiond._sync._lazy import Lazy
from sessiond._sync._streams import asset_pieces
from sessiond._sync._wire import Source, each, run_blocking
from sessiond._types.asset import Asset
from sessiond.errors import InternalError
from sessiond.v1.asset_service_pb2 import GetAssetRequest, UploadAssetRequest

# Large enough to keep the stream busy, small enough to use little memory.
PIECE_BYTES = 256 * 1024


class _File(Protocol):
    def read(self, size: int, /) -> bytes: ...


AssetSource: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | _File | Source[bytes]
)


class Assets(Calls):
    """Files that messages refer to.

    A message refers to an asset by its `asset_id` in a part, or by its `uri` anywhere in a
    provider's JSON. The asset_id is the hash of the content, so the same bytes are stored only
    once. An asset is kept as long as a message refers to it. An asset without references is
    deleted, but not within an hour of its last upload (the server's operator can change that). So
    upload the file first, then store the message.
    """

    def upload(
        self,
        source: AssetSource,
        *,
        media_type: str = "",
        asset_id: str | None = None,
        size: int | None = None,
        timeout: float | None = None,
    ) -> Asset:
        """Store a file. The file is sent while it is read, in bounded memory.

        A failed upload leaves nothing behind.

        Args:
            source: the path of a file; its content; a binary file object; or an iterable of pieces
                of any size. After a broken connection, a path or bytes are sent again. The other
                sources can be read only once, so the error is raised.
            media_type: the IANA media type, at most 256 characters. Default: guessed from the file
                name of a path. An existing asset keeps its media type.
            asset_id: the expected SHA-256 in hexadecimal; the server refuses other content.
                Default: no check.
            size: the expected size in bytes; the server refuses other content. Default: the actual
                size for a path or bytes, otherwise no check.
            timeout: deadline over all attempts, in seconds. Default: no deadline.

        Returns:
            The asset, even if the project had it already.

        Raises:
            AssetTooLarge: if the content exceeds the server's size limit.
            AssetMismatch: if the content has a different SHA-256 or size.
            AssetStoreUnavailable: if the server cannot reach its store.
            OSError: if the file cannot be read.
            Exception: any error raised by iterating over `source`.
        """
        if size is None and is_path(source):
            size = (run_blocking(os.stat, source)).st_size
        first = asset_requests.upload_asset(
            source, media_type=media_type, asset_id=asset_id, size=size
        )
        answer = self._connection.upload(
            lambda stubs: stubs.assets.UploadAsset,
            lambda: _upload_requests(first, source),
            timeout=timeout,
            is_repeatable=is_path(source) or isinstance(source, bytes | bytearray | memoryview),
        )
        return Asset(answer)

    def get(self, asset_id: str, *, timeout: float | None = None) -> Asset:
        """Return an asset's media type, size and times.

        Args:
            asset_id: the asset.
            timeout: deadline over all attempts, in seconds.

        Raises:
            AssetNotFound: if there is no such asset.
        """
        request = filled(GetAssetRequest(), asset_id=asset_id)
        return Asset(self._connection.call(lambda stubs: stubs.assets.GetAsset, request, timeout))

    def download(
        self,
        asset_id: str,
        *,
        offset: int | None = None,
        length: int | None = None,
        timeout: float | None = None,
    ) -> Lazy[bytes]:
        """Read an asset's content in pieces, streamed during the iteration.

        A broken stream resumes where it broke off.

        Args:
            asset_id: the asset.
            offset: bytes to skip at the beginning. Default: none.
            length: maximum number of bytes to read, at least 1. Default: all.
            timeout: deadline of the whole read, in seconds. Default: no deadline.

        Returns:
            A lazy list; no call is made until it is iterated over. Iterating raises
            AssetNotFound if there is no such asset, and AssetStoreUnavailable if the server cannot
            reach its store.
        """
        request = asset_requests.download_asset(asset_id, offset=offset, length=length)
        return Lazy(lambda: asset_pieces(self._connection, request, timeout))

    def read(self, asset_id: str, *, timeout: float | None = None) -> bytes:
        """Return an asset's whole content, after checking its SHA-256.

        Args:
            asset_id: the asset.
            timeout: deadline of the whole read, in seconds. Default: no deadline.

        Raises:
            SessiondError: as in download; InternalError if the content has a different SHA-256.
        """
        pieces = self.download(asset_id, timeout=timeout).to_list()
        content = b"".join(pieces)
        check_content(asset_id, hashlib.sha256(content).hexdigest())
        return content

    def save(
        self, asset_id: str, path: str | os.PathLike[str], *, timeout: float | None = None
    ) -> None:
        """Write an asset's content to a file, in bounded memory.

        The file appears at its path only when it is complete and its SHA-256 has been checked.

        Args:
            asset_id: the asset.
            path: path of the file. An existing file is replaced.
            timeout: deadline of the whole read, in seconds. Default: no deadline.

        Raises:
            SessiondError: as in read.
            OSError: if the file cannot be written.
        """
        target = Path(path_of(path, "path"))
        unfinished = target.with_name(f".{uuid4().hex}.part")
        digest = hashlib.sha256()
        file = run_blocking(_open, unfinished, "xb")
        try:
            try:
                for piece in self.download(asset_id, timeout=timeout):
                    digest.update(piece)
                    run_blocking(file.write, piece)
            finally:
                run_blocking(file.close)
            check_content(asset_id, digest.hexdigest())
            run_blocking(os.replace, unfinished, target)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise


def _open(path: str | os.PathLike[str], mode: str) -> BinaryIO:
    return cast(BinaryIO, Path(path).open(mode))


def check_content(asset_id: str, digest: str) -> None:
    """Check the SHA-256 of downloaded content.

    Raises:
        InternalError: if the SHA-256 differs from the asset_id.
    """
    if digest != asset_id:
        raise InternalError(
            f"the download is not the content of asset {asset_id}: its SHA-256 is {digest}"
        )


def _upload_requests(
    first: UploadAssetRequest, source: AssetSource
) -> Generator[UploadAssetRequest, None]:
    request = UploadAssetRequest()
    request.CopyFrom(first)
    is_first = True
    with closing(_pieces(source)) as pieces:
        for piece in pieces:
            request.data = piece
            yield request
            request = UploadAssetRequest()
            is_first = False
    # An empty asset still needs one request, without data.
    if is_first:
        yield request


def _pieces(source: AssetSource) -> Generator[bytes, None]:
    """Yield the content of a source in pieces of at most PIECE_BYTES."""
    if isinstance(source, bytes | bytearray | memoryview):
        view = memoryview(source).cast("B")
        for start in range(0, len(view), PIECE_BYTES):
            yield bytes(view[start : start + PIECE_BYTES])
    elif isinstance(source, str | os.PathLike):
        file = run_blocking(_open, source, "rb")
        try:
            while data := run_blocking(file.read, PIECE_BYTES):
                yield data
        finally:
            file.close()
    elif hasattr(source, "read"):
        while data := run_blocking(source.read, PIECE_BYTES):
            yield asset_requests.piece_of(data)
    else:
        # Join small pieces, which would otherwise be sent one by one.
        buffer = bytearray()
        for data in each(source):
            buffer += asset_requests.piece_of(data)
            while len(buffer) >= PIECE_BYTES:
                yield bytes(buffer[:PIECE_BYTES])
                del buffer[:PIECE_BYTES]
        if buffer:
            yield bytes(buffer)
