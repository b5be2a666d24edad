"""The object store, which holds the content of assets in a directory or an S3 bucket.

An object consists of a key and bytes. It is written once, either whole or not at all, and never
changed.
"""

import asyncio
import glob
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import obstore
import structlog
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

# S3 requires parts of at least 5 MiB and allows at most 10,000 of them. The maximum of
# max_asset_bytes follows from this.
PART_BYTES = 5 * 1024 * 1024
# Maximum number of parts in flight. The memory of an upload is about these parts, the part that is
# being filled, and one piece.
PARTS_AT_ONCE = 2
# A read requests one range after another instead of a single stream. Otherwise a slow reader would
# keep a request open, and the store would cut it off.
READ_BYTES = 1024 * 1024
PIECE_BYTES = 256 * 1024

_T = TypeVar("_T")

log = structlog.get_logger(__name__)


class ObjectStoreUnavailable(Exception):
    """The object store does not respond, or refuses a request that it should accept."""


class ObjectMissing(Exception):
    """There is no such object."""


class _Abandoned(Exception):
    """Makes obstore abort an upload and remove its parts."""


class Objects:
    """The objects of one store, which is opened on first use.

    Args:
        location: an absolute path, file:///PATH, or s3://BUCKET/PREFIX with the usual AWS_*
            variables.
    """

    def __init__(self, location: str) -> None:
        url = urlsplit(location)
        self._bucket, self._prefix = (
            (url.netloc, url.path.strip("/")) if url.scheme == "s3" else ("", "")
        )
        self._root = (
            None
            if self._bucket
            else Path(unquote(url.path) if url.scheme == "file" else location).absolute()
        )
        self._opened: LocalStore | S3Store | None = None
        self._putting: dict[str, asyncio.Task[None]] = {}

    async def put(self, key: str, pieces: AsyncIterator[bytes]) -> None:
        """Store the pieces as one object, in bounded memory.

        If the iterator raises or the caller is cancelled, nothing is stored.

        Raises:
            ObjectStoreUnavailable: the store failed.
            Exception: any exception that the iterator raises.
        """
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        abandoned = asyncio.Event()
        # This task is separate and never cancelled, because an aborted request may leave parts
        # behind, or create an object after it was deleted.
        putting = self._putting[key] = asyncio.create_task(
            self._put(key, _queued(queue, abandoned))
        )
        putting.add_done_callback(lambda _: self._putting.pop(key))
        try:
            async for piece in pieces:
                await _unless_done(putting, queue.put(piece))
            await _unless_done(putting, queue.put(None))
            await asyncio.shield(putting)
        except BaseException:
            abandoned.set()
            if queue.empty():
                queue.put_nowait(None)
            # The exception must be retrieved, or asyncio logs it.
            putting.add_done_callback(lambda task: task.exception())
            raise

    async def get(self, key: str, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        """Read a range of an object, in bounded memory.

        Args:
            key: the object.
            offset: first byte.
            length: number of bytes to read.

        Yields:
            Pieces of at most PIECE_BYTES.

        Raises:
            ObjectMissing: the object does not exist.
            ObjectStoreUnavailable: the store failed.
        """
        end = offset + length
        while offset < end:
            stop = min(offset + READ_BYTES, end)
            try:
                content = memoryview(
                    await self._request(
                        obstore.get_range_async(self._store(), key, start=offset, end=stop)
                    )
                )
            except FileNotFoundError:
                raise ObjectMissing(key) from None
            if len(content) != stop - offset:
                raise _unavailable(f"object {key} is shorter than it was")
            for start in range(0, len(content), PIECE_BYTES):
                yield bytes(content[start : start + PIECE_BYTES])
            offset = stop

    async def delete(self, key: str) -> None:
        """Remove an object, or the parts that a killed upload left. A missing object is no error.

        Raises:
            ObjectStoreUnavailable: the store failed.
        """
        # An abandoned put in this process may still be running.
        if putting := self._putting.get(key):
            await asyncio.wait({putting})
        with suppress(FileNotFoundError):
            await self._request(obstore.delete_async(self._store(), key))
        if self._root:
            await self._request(asyncio.to_thread(_remove_staged, self._root / key))

    async def _put(self, key: str, pieces: AsyncGenerator[bytes, None]) -> None:
        # Content that fits into one part, as most does, is sent in a single request.
        head: list[bytes] = []
        head_bytes = 0
        async for piece in pieces:
            head.append(piece)
            head_bytes += len(piece)
            if head_bytes > PART_BYTES:
                await self._request(
                    obstore.put_async(
                        self._store(),
                        key,
                        _joined(head, pieces),
                        chunk_size=PART_BYTES,
                        max_concurrency=PARTS_AT_ONCE,
                    ),
                )
                break
        else:
            await self._request(
                obstore.put_async(self._store(), key, b"".join(head), use_multipart=False)
            )
        if self._root:
            await self._request(asyncio.to_thread(_make_durable, self._root, key))

    def _store(self) -> LocalStore | S3Store:
        if self._opened is None:
            try:
                if self._root:
                    self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
                    self._opened = LocalStore(self._root)
                else:
                    self._opened = S3Store(
                        self._bucket,
                        prefix=self._prefix or None,
                        # The scheme depends on the endpoint: https for AWS, possibly http for a
                        # local store.
                        client_options={
                            "allow_http": True,
                            "connect_timeout": timedelta(seconds=5),
                            "timeout": timedelta(seconds=60),
                        },
                        # Fail soon: the client is waiting, and can retry.
                        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=15)},
                    )
            except (BaseError, OSError, ValueError) as e:
                raise _unavailable(str(e)) from e
        return self._opened

    async def _request(self, request: Awaitable[_T]) -> _T:
        """Await a request, and translate all errors of the store except FileNotFoundError."""
        try:
            return await request
        except (FileNotFoundError, _Abandoned):
            raise
        except (BaseError, OSError, ValueError) as e:
            raise _unavailable(str(e)) from e


def _unavailable(why: str) -> ObjectStoreUnavailable:
    # The details are only logged. obstore appends the fields of the underlying error to its
    # messages.
    log.warning("asset_store_failed", error=why.partition("\n\nDebug source")[0][:500])
    return ObjectStoreUnavailable(why)


async def _unless_done(task: asyncio.Task[None], step: Awaitable[None]) -> None:
    """Await a step. If the task ends first, which only happens on an error, raise its error."""
    running = asyncio.ensure_future(step)
    try:
        await asyncio.wait({running, task}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        running.cancel()
    if task.done():
        await task


async def _queued(
    queue: asyncio.Queue[bytes | None], abandoned: asyncio.Event
) -> AsyncGenerator[bytes, None]:
    while (piece := await queue.get()) is not None and not abandoned.is_set():
        yield piece
    if abandoned.is_set():
        raise _Abandoned


async def _joined(head: list[bytes], rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    for piece in head:
        yield piece
    head.clear()
    async for piece in rest:
        yield piece


def _make_durable(root: Path, key: str) -> None:
    """Sync the file and its directories, so that the object survives a power cut."""
    path = root / key
    for synced in (path, path.parent, root):
        if os.name != "posix" and synced is not path:
            continue  # only POSIX can open a directory
        descriptor = os.open(synced, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_staged(path: Path) -> None:
    """Remove the local store's staging files for an object: NAME#1, NAME#2, ..."""
    for staged in path.parent.glob(f"{glob.escape(path.name)}#*"):
        staged.unlink(missing_ok=True)
