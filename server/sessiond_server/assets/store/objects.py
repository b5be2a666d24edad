"""Where the content of assets lies: a directory or an S3 bucket, through obstore. Objects have keys and bytes, nothing else.

An object is written once, whole or not at all, and never changed.
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

# S3 takes parts of 5 MiB at least, and 10,000 of them at most: hence the most that max_asset_bytes may be.
PART_BYTES = 5 * 1024 * 1024
# Parts on their way at once. What an upload has in memory is about these, the one that is being filled, and one piece.
PARTS_AT_ONCE = 2
# A read asks for a stretch after the other instead of one stream: whoever reads slowly then keeps no request open, which the store would
# end in the middle.
READ_BYTES = 1024 * 1024
PIECE_BYTES = 256 * 1024

_T = TypeVar("_T")

log = structlog.get_logger(__name__)


class ObjectStoreUnavailable(Exception):
    """The object store does not answer, or refuses what it must not refuse."""


class ObjectMissing(Exception):
    """There is no such object."""


class _Abandoned(Exception):
    """Makes obstore give up an upload, and remove what it has stored of it."""


class Objects:
    """The objects of one place.

    Args:
        location: an absolute path, file:///PATH, or s3://BUCKET/PREFIX with the usual AWS_* variables. Nothing is asked of it yet.
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
        """Store the pieces as one object, in bounded memory. Where iterating raises, or the caller is cancelled, nothing is stored.

        Raises: ObjectStoreUnavailable, and whatever iterating raises.
        """
        handed: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        abandoned = asyncio.Event()
        # In a task of its own, which is never cancelled: a request that is dropped leaves parts behind, or an object that comes after it
        # was deleted.
        putting = self._putting[key] = asyncio.create_task(
            self._put(key, _taken(handed, abandoned))
        )
        putting.add_done_callback(lambda _: self._putting.pop(key))
        try:
            async for piece in pieces:
                await _unless_done(putting, handed.put(piece))
            await _unless_done(putting, handed.put(None))
            await asyncio.shield(putting)
        except BaseException:
            abandoned.set()
            if handed.empty():
                handed.put_nowait(None)
            # Nobody asks for its outcome any more.
            putting.add_done_callback(lambda task: task.exception())
            raise

    async def get(self, key: str, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        """`length` bytes from `offset` on, in pieces. Not more than a few pieces are in memory.

        Raises: ObjectMissing, ObjectStoreUnavailable.
        """
        end = offset + length
        while offset < end:
            stop = min(offset + READ_BYTES, end)
            try:
                stretch = memoryview(
                    await self._asked(
                        obstore.get_range_async(self._store(), key, start=offset, end=stop)
                    )
                )
            except FileNotFoundError:
                raise ObjectMissing(key) from None
            if len(stretch) != stop - offset:
                raise _unavailable(f"object {key} is shorter than it was")
            for start in range(0, len(stretch), PIECE_BYTES):
                yield bytes(stretch[start : start + PIECE_BYTES])
            offset = stop

    async def delete(self, key: str) -> None:
        """Remove an object, and what an upload that was killed has left of it. One that is not there is no error.

        Raises: ObjectStoreUnavailable.
        """
        # A put of this process that was given up is still at the store.
        if putting := self._putting.get(key):
            await asyncio.wait({putting})
        with suppress(FileNotFoundError):
            await self._asked(obstore.delete_async(self._store(), key))
        if self._root:
            await self._asked(asyncio.to_thread(_remove_staged, self._root / key))

    async def _put(self, key: str, pieces: AsyncGenerator[bytes, None]) -> None:
        # What fits into one part goes in one request. Most assets do.
        head: list[bytes] = []
        head_bytes = 0
        async for piece in pieces:
            head.append(piece)
            head_bytes += len(piece)
            if head_bytes > PART_BYTES:
                more = _joined(head, pieces)
                await self._asked(
                    obstore.put_async(
                        self._store(),
                        key,
                        more,
                        chunk_size=PART_BYTES,
                        max_concurrency=PARTS_AT_ONCE,
                    ),
                )
                break
        else:
            await self._asked(
                obstore.put_async(self._store(), key, b"".join(head), use_multipart=False)
            )
        if self._root:
            await self._asked(asyncio.to_thread(_make_durable, self._root, key))

    def _store(self) -> LocalStore | S3Store:
        """Raises: ObjectStoreUnavailable."""
        if self._opened is None:
            try:
                if self._root:
                    self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
                    self._opened = LocalStore(self._root)
                else:
                    self._opened = S3Store(
                        self._bucket,
                        prefix=self._prefix or None,
                        # The endpoint says which it is: for AWS itself https, for a store in the next room perhaps http.
                        client_options={
                            "allow_http": True,
                            "connect_timeout": timedelta(seconds=5),
                            "timeout": timedelta(seconds=60),
                        },
                        # A client that waits is better told soon, and tries again by itself.
                        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=15)},
                    )
            except (BaseError, OSError, ValueError) as e:
                raise _unavailable(str(e)) from e
        return self._opened

    async def _asked(self, answer: Awaitable[_T]) -> _T:
        """Raises: ObjectStoreUnavailable, FileNotFoundError."""
        try:
            return await answer
        except (FileNotFoundError, _Abandoned):
            raise
        except (BaseError, OSError, ValueError) as e:
            raise _unavailable(str(e)) from e


def _unavailable(why: str) -> ObjectStoreUnavailable:
    # The caller is told no more than that; whoever can mend it reads the log. obstore's texts have their source's fields below.
    log.warning("the asset store failed", error=why.partition("\n\nDebug source")[0][:500])
    return ObjectStoreUnavailable(why)


async def _unless_done(task: asyncio.Task[None], step: Awaitable[None]) -> None:
    """Do a step of the task's. If the task ends first, which is by an error, raise that."""
    doing = asyncio.ensure_future(step)
    try:
        await asyncio.wait({doing, task}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        doing.cancel()
    if task.done():
        await task


async def _taken(
    handed: asyncio.Queue[bytes | None], abandoned: asyncio.Event
) -> AsyncGenerator[bytes, None]:
    while (piece := await handed.get()) is not None and not abandoned.is_set():
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
    """Have the object outlive a power cut, as what the database has committed does: file, names, and nothing in a cache alone."""
    path = root / key
    for synced in (path, path.parent, root):
        if os.name != "posix" and synced is not path:
            continue  # elsewhere a directory cannot be opened
        descriptor = os.open(synced, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_staged(path: Path) -> None:
    """Remove the files in which the local store collects an object before it has its name: NAME#1, NAME#2, ..."""
    for staged in path.parent.glob(f"{glob.escape(path.name)}#*"):
        staged.unlink(missing_ok=True)
