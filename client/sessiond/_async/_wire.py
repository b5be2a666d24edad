"""What differs between the two clients: the channel, sleeping, sending a stream, work in the background.

The twin is sessiond/_sync/_wire.py, by hand as well.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakSet

import grpc
from grpc import aio

from sessiond._settings import Settings
from sessiond.v1.admin_service_pb2_grpc import AdminServiceStub
from sessiond.v1.asset_service_pb2_grpc import AssetServiceStub
from sessiond.v1.bookmark_service_pb2_grpc import BookmarkServiceStub
from sessiond.v1.processing_service_pb2_grpc import ProcessingServiceStub
from sessiond.v1.session_service_pb2_grpc import SessionServiceStub
from sessiond.v1.task_service_pb2_grpc import TaskServiceStub

if TYPE_CHECKING:
    from typing import TypeAlias

    from sessiond.v1.admin_service_pb2_grpc import AdminServiceAsyncStub
    from sessiond.v1.asset_service_pb2_grpc import AssetServiceAsyncStub
    from sessiond.v1.bookmark_service_pb2_grpc import BookmarkServiceAsyncStub
    from sessiond.v1.processing_service_pb2_grpc import ProcessingServiceAsyncStub
    from sessiond.v1.session_service_pb2_grpc import SessionServiceAsyncStub
    from sessiond.v1.task_service_pb2_grpc import TaskServiceAsyncStub

    UnaryMethod: TypeAlias = aio.UnaryUnaryMultiCallable
    UploadMethod: TypeAlias = aio.StreamUnaryMultiCallable

_Item = TypeVar("_Item")
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

Metadata = tuple[tuple[str, str], ...]
Source = AsyncIterable[_Item] | Iterable[_Item]

# What a failed call raises. Closing a channel cancels its calls, and so their waiters, although nobody cancelled the tasks.
FAULTS = (grpc.RpcError, asyncio.CancelledError)

sleep = asyncio.sleep


class AsyncStubs:
    """The generated stubs on the client's channel, for calls that the client does not wrap. They send no API key by themselves:
    give `metadata=client.metadata`.
    """

    sessions: SessionServiceAsyncStub
    """SessionService."""
    tasks: TaskServiceAsyncStub
    """TaskService."""
    bookmarks: BookmarkServiceAsyncStub
    """BookmarkService."""
    processing: ProcessingServiceAsyncStub
    """ProcessingService."""
    assets: AssetServiceAsyncStub
    """AssetService."""
    admin: AdminServiceAsyncStub
    """AdminService."""

    def __init__(self, settings: Settings) -> None:
        if settings.credentials:
            self._channel = aio.secure_channel(settings.target, settings.credentials, settings.options)
        else:
            self._channel = aio.insecure_channel(settings.target, settings.options)
        self.sessions = SessionServiceStub(self._channel)
        self.tasks = TaskServiceStub(self._channel)
        self.bookmarks = BookmarkServiceStub(self._channel)
        self.processing = ProcessingServiceStub(self._channel)
        self.assets = AssetServiceStub(self._channel)
        self.admin = AdminServiceStub(self._channel)
        self._streams: WeakSet[aio.Call] = WeakSet()

    async def close(self) -> None:
        """Ends what runs on the channel, and closes it."""
        # A closing channel does not find every stream that somebody waits for (grpcio 1.75), and would leave the waiter waiting.
        for stream in list(self._streams):
            stream.cancel()
        await self._channel.close()

    def watch(self, stream: aio.Call) -> None:
        """Have close() end this stream."""
        self._streams.add(stream)

    async def upload(
        self,
        method: UploadMethod[_Request, _Response],
        requests: AsyncGenerator[_Request, None],
        *,
        timeout: float | None,
        metadata: Metadata,
    ) -> _Response:
        """Send a stream of requests and wait for the answer."""
        call = method(timeout=timeout, metadata=metadata)
        self.watch(call)
        try:
            async for request in requests:
                try:
                    await call.write(request)
                except (grpc.RpcError, asyncio.InvalidStateError):
                    # The server has ended the call before the stream was complete. Why, the answer says, unless gRPC has lost it (see
                    # _status): a failed write says no more than "internal error".
                    break
            else:
                await call.done_writing()
            return await call
        finally:
            call.cancel()
            await requests.aclose()


def is_cancelled() -> bool:
    """Whether the running task itself is asked to stop."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def in_thread(function: Callable[[], _Item]) -> _Item:
    """Work on files, which would hold up the loop."""
    return await asyncio.to_thread(function)


async def each(source: Source[_Item]) -> AsyncIterator[_Item]:
    """The items of an iterable of either kind."""
    if isinstance(source, AsyncIterable):
        async for item in source:
            yield item
    else:
        for item in source:
            yield item


async def finished(made: object) -> None:
    """Wait for what a handler made, where it is a coroutine or another awaitable."""
    if inspect.isawaitable(made):
        await made


@asynccontextmanager
async def repeated(interval_s: float, function: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Call a function again and again while the block runs, in a task of its own. It must not raise."""

    async def repeat() -> None:
        while True:
            await asyncio.sleep(interval_s)
            await function()

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
