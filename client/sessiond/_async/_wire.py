"""What differs between the two clients: the channel, sleeping, sending a stream, work in the background.

The twin is sessiond/_sync/_wire.py, by hand as well.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
)
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from weakref import WeakSet

import grpc
from grpc import aio

from sessiond._async._coalescing import Coalescer
from sessiond._protocol.settings import ClientSettings
from sessiond._requests.encoded import IMPORT_MESSAGES, STORE_MESSAGES
from sessiond.v1.admin_service_pb2_grpc import AdminServiceStub
from sessiond.v1.asset_service_pb2_grpc import AssetServiceStub
from sessiond.v1.bookmark_service_pb2_grpc import BookmarkServiceStub
from sessiond.v1.conversation_service_pb2_grpc import ConversationServiceStub
from sessiond.v1.processing_service_pb2_grpc import ProcessingServiceStub
from sessiond.v1.session_service_pb2 import ImportMessagesResponse, StoreMessagesResponse
from sessiond.v1.session_service_pb2_grpc import SessionServiceStub
from sessiond.v1.task_service_pb2_grpc import TaskServiceStub

if TYPE_CHECKING:
    from typing import TypeAlias

    from sessiond.v1.admin_service_pb2_grpc import AdminServiceAsyncStub
    from sessiond.v1.asset_service_pb2_grpc import AssetServiceAsyncStub
    from sessiond.v1.bookmark_service_pb2_grpc import BookmarkServiceAsyncStub
    from sessiond.v1.conversation_service_pb2_grpc import ConversationServiceAsyncStub
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


class Stop:
    """Ends a stream from outside."""

    def __init__(self) -> None:
        self.is_set = False
        self._call: aio.Call | None = None

    def watch(self, call: aio.Call) -> None:
        """The call to end; at once, where it is set already."""
        self._call = call
        if self.is_set:
            call.cancel()

    def set(self) -> None:
        self.is_set = True
        if self._call:
            self._call.cancel()


Mutex = asyncio.Lock


class Signal:
    """Something to wait for."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.set = self._event.set
        self.clear = self._event.clear

    async def wait(self, timeout: float | None) -> bool:
        """Whether it was set in time. timeout: unit seconds; None = no end."""
        try:
            async with asyncio.timeout(timeout):
                await self._event.wait()
        except TimeoutError:
            return self._event.is_set()
        return True


class Mailbox(Generic[_Item]):
    """Items from anywhere, the garbage collector included, for one task that takes them."""

    def __init__(self) -> None:
        self._items: deque[_Item] = deque()
        self._has_items = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def put(self, item: _Item) -> None:
        self._items.append(item)
        if self._loop:
            # A loop that is closed has nobody who takes it.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._has_items.set)

    async def take(self, timeout: float | None) -> _Item | None:
        """The next item. None = there was none in time. timeout: unit seconds; None = no end."""
        self._loop = asyncio.get_running_loop()
        while not self._items:
            try:
                async with asyncio.timeout(timeout):
                    await self._has_items.wait()
            except TimeoutError:
                return None
            self._has_items.clear()
        return self._items.popleft()


class Watchdog:
    """Cancels a call that is silent for too long while somebody waits for it."""

    def __init__(self, call: aio.Call, silence_s: float) -> None:
        self.has_bitten = False
        self._call = call
        self._silence_s = silence_s
        self._timer: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """From now on it counts."""
        self._timer = asyncio.get_running_loop().call_later(self._silence_s, self._bite)

    def rest(self) -> None:
        """Nobody waits for the call."""
        if self._timer:
            self._timer.cancel()

    def end(self) -> None:
        """It is not needed any more."""
        self.rest()

    def _bite(self) -> None:
        self.has_bitten = True
        self._call.cancel()


# The event loop itself keeps only weak references to its tasks.
_tasks: set[asyncio.Task[None]] = set()


def in_background(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Call a function in a task of its own. It must not raise."""
    task = asyncio.get_running_loop().create_task(function())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


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
    conversations: ConversationServiceAsyncStub
    """ConversationService."""
    admin: AdminServiceAsyncStub
    """AdminService."""

    def __init__(self, settings: ClientSettings) -> None:
        if settings.credentials:
            self._channel = aio.secure_channel(
                settings.target, settings.credentials, settings.options
            )
        else:
            self._channel = aio.insecure_channel(settings.target, settings.options)
        self.sessions = SessionServiceStub(self._channel)
        self.tasks = TaskServiceStub(self._channel)
        self.bookmarks = BookmarkServiceStub(self._channel)
        self.processing = ProcessingServiceStub(self._channel)
        self.assets = AssetServiceStub(self._channel)
        self.conversations = ConversationServiceStub(self._channel)
        self.admin = AdminServiceStub(self._channel)
        self._streams: WeakSet[aio.Call] = WeakSet()
        self.appends = Coalescer(self.sessions, self.watch)
        self.store_encoded: aio.UnaryUnaryMultiCallable[bytes, StoreMessagesResponse] = (
            self._channel.unary_unary(
                STORE_MESSAGES, response_deserializer=StoreMessagesResponse.FromString
            )
        )
        """StoreMessages with a request that is encoded already."""
        self.import_encoded: aio.StreamUnaryMultiCallable[bytes, ImportMessagesResponse] = (
            self._channel.stream_unary(
                IMPORT_MESSAGES, response_deserializer=ImportMessagesResponse.FromString
            )
        )
        """ImportMessages with pieces that are encoded already."""

    async def close(self) -> None:
        """Ends what runs on the channel, and closes it."""
        self.appends.close()
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


class Ahead(Generic[_Response]):
    """The responses of a stream, each with the next one on its way while it is worked on.

    No generator: one that has to wait when it is closed cannot be closed by an event loop that shuts down, together with those around it.
    """

    def __init__(self, call: aio.UnaryStreamCall[Any, _Response]) -> None:
        self._call = call
        self._coming = self._ask()

    def __aiter__(self) -> Ahead[_Response]:
        return self

    async def __anext__(self) -> _Response:
        if (response := await self._coming) is aio.EOF:
            raise StopAsyncIteration
        self._coming = self._ask()
        # It starts now, not when this response is done with.
        await asyncio.sleep(0)
        return cast(_Response, response)

    def close(self) -> None:
        """The next one is not wanted any more."""
        self._coming.cancel()

    def _ask(self) -> asyncio.Future[Any]:
        coming = asyncio.ensure_future(self._call.read())
        # What it ends with is looked at, though perhaps nobody waits for it.
        coming.add_done_callback(lambda done: done.cancelled() or done.exception())
        return coming


def is_cancelled() -> bool:
    """Whether the running task itself is asked to stop."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def run(function: Callable[..., _Item], *args: Any) -> _Item:
    """Call what waits for a disk: in a thread, so that the event loop does not."""
    return await asyncio.to_thread(function, *args)


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
async def repeated(
    interval_s: float, function: Callable[[], Awaitable[None]]
) -> AsyncIterator[None]:
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
