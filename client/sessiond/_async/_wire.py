"""The code that differs between the two clients: channel, waiting, uploads, background work.

The sync twin is sessiond/_sync/_wire.py. Both are written by hand.
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
from sessiond._protocol import forks
from sessiond._protocol.raw_messages import raw
from sessiond._protocol.sending import send_until_ended
from sessiond._protocol.settings import STREAMS_A_CHANNEL, ClientSettings
from sessiond._requests.encoded import GET_MESSAGES, IMPORT_MESSAGES, STORE_MESSAGES
from sessiond.v1.admin_service_pb2_grpc import AdminServiceStub
from sessiond.v1.asset_service_pb2_grpc import AssetServiceStub
from sessiond.v1.bookmark_service_pb2_grpc import BookmarkServiceStub
from sessiond.v1.conversation_service_pb2_grpc import ConversationServiceStub
from sessiond.v1.processing_service_pb2_grpc import ProcessingServiceStub
from sessiond.v1.session_service_pb2 import (
    GetMessagesRequest,
    GetMessagesResponse,
    ImportMessagesResponse,
    StoreMessagesResponse,
)
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
    StreamMethod: TypeAlias = aio.UnaryStreamMultiCallable
    UploadMethod: TypeAlias = aio.StreamUnaryMultiCallable
    Attempt: TypeAlias = Callable[[float | None], Awaitable["_Response"]]

_Item = TypeVar("_Item")
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

Metadata = tuple[tuple[str, str], ...]
Source = AsyncIterable[_Item] | Iterable[_Item]

# The exceptions that a failed call raises. Closing the channel cancels its calls. Code that awaits
# one of them then gets a CancelledError, although its task was not cancelled.
FAULTS = (grpc.RpcError, asyncio.CancelledError)

sleep = asyncio.sleep


class Stop:
    """Ends a stream from outside.

    Attributes:
        is_set: whether the stream should end.
    """

    def __init__(self) -> None:
        self.is_set = False
        self._call: aio.Call | None = None

    def watch(self, call: aio.Call) -> None:
        """Register the call that set() ends. If set() was called already, end the call at once."""
        self._call = call
        if self.is_set:
            call.cancel()

    def set(self) -> None:
        """End the stream."""
        self.is_set = True
        if self._call:
            self._call.cancel()


Mutex = asyncio.Lock


class Signal:
    """An event that can be waited for with a timeout."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.set = self._event.set
        self.clear = self._event.clear

    async def wait(self, timeout: float | None) -> bool:
        """Wait until the signal is set.

        Args:
            timeout: how long to wait, in seconds. None = forever.

        Returns:
            Whether the signal was set in time.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._event.wait()
        except TimeoutError:
            return self._event.is_set()
        return True


class Mailbox(Generic[_Item]):
    """A queue to one task. Any thread and the garbage collector may add items."""

    def __init__(self) -> None:
        self._items: deque[_Item] = deque()
        self._has_items = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def put(self, item: _Item) -> None:
        """Add an item, without blocking."""
        self._items.append(item)
        if self._loop:
            # If the loop is closed, no consumer takes items any longer.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._has_items.set)

    async def take(self, timeout: float | None) -> _Item | None:
        """Take the next item.

        Args:
            timeout: how long to wait, in seconds. None = forever.

        Returns:
            The item, or None if none arrived in time.
        """
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
    """Cancels a call that is silent for too long while its caller waits for it.

    Attributes:
        expired: whether the watchdog has cancelled the call.
    """

    def __init__(self, call: aio.Call, max_silence_s: float | None) -> None:
        self.expired = False
        self._call = call
        self._max_silence_s = max_silence_s
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Measure the silence from now on."""
        if self._max_silence_s is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._max_silence_s, self._expire)

    def pause(self) -> None:
        """Stop the time measurement while no caller waits for the call."""
        if self._timer:
            self._timer.cancel()

    def close(self) -> None:
        """Stop permanently."""
        self.pause()

    def _expire(self) -> None:
        self.expired = True
        self._call.cancel()


# The event loop keeps only weak references to its tasks.
_tasks: set[asyncio.Task[None]] = set()


def in_background(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Call a function in a new task. The function must not raise."""
    task = asyncio.get_running_loop().create_task(function())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def scope() -> object:
    """Return the process and the running event loop, to which background work belongs."""
    return forks.generation, _running_loop()


class AsyncStubs:
    """The generated stubs on the client's channel, for calls that the client does not wrap.

    They do not send the API key by themselves: pass `metadata=client.metadata`.

    Attributes:
        sessions: SessionService.
        tasks: TaskService.
        bookmarks: BookmarkService.
        processing: ProcessingService.
        assets: AssetService.
        conversations: ConversationService.
        admin: AdminService.
        appends: StoreMessages for many concurrent callers, as `appends.call`.
        messages: GetMessages, whose messages have their JSON as bytes.
        store_encoded: StoreMessages with an encoded request.
        import_encoded: ImportMessages with encoded requests.
    """

    def __init__(self, settings: ClientSettings) -> None:
        forks.opened(self)
        if settings.credentials:
            self._channel = aio.secure_channel(
                settings.target, settings.credentials, settings.options
            )
        else:
            self._channel = aio.insecure_channel(settings.target, settings.options)
        self.sessions: SessionServiceAsyncStub = SessionServiceStub(self._channel)
        self.tasks: TaskServiceAsyncStub = TaskServiceStub(self._channel)
        self.bookmarks: BookmarkServiceAsyncStub = BookmarkServiceStub(self._channel)
        self.processing: ProcessingServiceAsyncStub = ProcessingServiceStub(self._channel)
        self.assets: AssetServiceAsyncStub = AssetServiceStub(self._channel)
        self.conversations: ConversationServiceAsyncStub = ConversationServiceStub(self._channel)
        self.admin: AdminServiceAsyncStub = AdminServiceStub(self._channel)
        self._settings = settings
        self._loop = _running_loop()
        self._generation = forks.generation
        self._streams: WeakSet[aio.Call] = WeakSet()
        self._more: list[AsyncStubs] = []
        self.appends = Coalescer(self.sessions, self.watch)
        self.messages: aio.UnaryStreamMultiCallable[GetMessagesRequest, GetMessagesResponse] = (
            self._channel.unary_stream(
                GET_MESSAGES,
                request_serializer=GetMessagesRequest.SerializeToString,
                response_deserializer=raw(GetMessagesResponse).FromString,
            )
        )
        self.store_encoded: aio.UnaryUnaryMultiCallable[bytes, StoreMessagesResponse] = (
            self._channel.unary_unary(
                STORE_MESSAGES, response_deserializer=StoreMessagesResponse.FromString
            )
        )
        self.import_encoded: aio.StreamUnaryMultiCallable[bytes, ImportMessagesResponse] = (
            self._channel.stream_unary(
                IMPORT_MESSAGES, response_deserializer=ImportMessagesResponse.FromString
            )
        )

    async def close(self) -> None:
        """End the running calls and close the channel, in the loop that it was opened in."""
        loop = self._loop
        if loop is None or loop is _running_loop():
            await self._close()
        elif not self.is_lost():
            asyncio.run_coroutine_threadsafe(self._close(), loop)

    async def _close(self) -> None:
        self.appends.close()
        # A closing channel overlooks some streams (grpcio 1.75), whose readers would wait forever.
        for stream in list(self._streams):
            stream.cancel()
        await self._channel.close()
        forks.closed(self)
        for stubs in self._more:
            await stubs._close()

    def is_usable(self) -> bool:
        """Return whether the channel belongs to the running event loop and to this process."""
        if self._generation != forks.generation:
            return False
        loop = _running_loop()
        return loop is None or loop is self._loop

    def is_lost(self) -> bool:
        """Return whether the channel's event loop or process is gone."""
        if self._generation != forks.generation:
            forks.keep(self)
            return True
        return self._loop is not None and self._loop.is_closed()

    def with_room(self) -> AsyncStubs:
        """Return stubs on a channel with room for a stream.

        A server or a proxy allows each connection some hundred calls at once; further calls wait.
        Streams are therefore spread over several channels, which leaves room for short calls.
        """
        for stubs in (self, *self._more):
            if len(stubs._streams) < STREAMS_A_CHANNEL:
                return stubs
        self._more.append(AsyncStubs(self._settings))
        return self._more[-1]

    def watch(self, stream: aio.Call) -> None:
        """Register a stream that close() ends."""
        self._streams.add(stream)

    def forget(self, stream: aio.Call) -> None:
        """Remove a stream that has ended."""
        self._streams.discard(stream)

    async def upload(
        self,
        method: UploadMethod[_Request, _Response],
        requests: AsyncGenerator[_Request, None],
        *,
        timeout: float | None,
        metadata: Metadata,
    ) -> _Response:
        """Send a stream of requests, and return the response.

        Args:
            method: the method.
            requests: the requests; the generator is closed at the end.
            timeout: deadline of the call, in seconds. None = no deadline.
            metadata: sent with the call.

        Returns:
            The response.

        Raises:
            grpc.RpcError: if the call failed.
            Exception: any error raised by creating the requests.
        """
        call = method(timeout=timeout, metadata=metadata)
        self.watch(call)
        try:
            await send_until_ended(call, requests)
            return await call
        finally:
            call.cancel()
            self.forget(call)


class Prefetch(Generic[_Response]):
    """The responses of a stream, each requested while the previous one is in use.

    This is not a generator, because an event loop that shuts down could not close a generator that
    is waiting, nor the generators around it.
    """

    def __init__(self, call: aio.UnaryStreamCall[Any, _Response]) -> None:
        self._call = call
        self._next = self._read()

    def __aiter__(self) -> Prefetch[_Response]:
        return self

    async def __anext__(self) -> _Response:
        if (response := await self._next) is aio.EOF:
            raise StopAsyncIteration
        self._next = self._read()
        # Start the read now, not after this response has been used.
        await asyncio.sleep(0)
        return cast(_Response, response)

    def _read(self) -> asyncio.Future[Any]:
        read = asyncio.ensure_future(self._call.read())
        # Retrieve the exception, because no caller may await it.
        read.add_done_callback(lambda done: done.cancelled() or done.exception())
        return read


def is_cancelled() -> bool:
    """Return whether the running task itself has been cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def run_blocking(function: Callable[..., _Item], *args: Any) -> _Item:
    """Call a blocking function, e.g. one that reads a file, in a thread; return its result."""
    return await asyncio.to_thread(function, *args)


async def each(source: Source[_Item]) -> AsyncIterator[_Item]:
    """Yield the items of a sync or async iterable."""
    if isinstance(source, AsyncIterable):
        async for item in source:
            yield item
    else:
        for item in source:
            yield item


async def finished(result: object) -> None:
    """If a handler's result is awaitable, wait for it."""
    if inspect.isawaitable(result):
        await result


@asynccontextmanager
async def repeated(
    interval_s: float, function: Callable[[], Awaitable[None]]
) -> AsyncIterator[None]:
    """Call a function periodically in a new task while the block runs.

    The function must not raise.
    """

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
