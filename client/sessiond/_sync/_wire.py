"""The code that differs between the two clients: channel, waiting, uploads, background work.

The async twin is sessiond/_async/_wire.py. Both are written by hand.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from weakref import WeakSet

import grpc

from sessiond._sync._coalescing import Coalescer
from sessiond._protocol.raw_messages import raw
from sessiond._requests.encoded import GET_MESSAGES, IMPORT_MESSAGES, STORE_MESSAGES
from sessiond._protocol import forks
from sessiond._protocol.settings import STREAMS_A_CHANNEL, ClientSettings
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

    UnaryMethod: TypeAlias = grpc.UnaryUnaryMultiCallable
    StreamMethod: TypeAlias = grpc.UnaryStreamMultiCallable
    UploadMethod: TypeAlias = grpc.StreamUnaryMultiCallable
    Attempt: TypeAlias = Callable[[float | None], "_Response"]

_Item = TypeVar("_Item")
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

Metadata = tuple[tuple[str, str], ...]
Source = Iterable[_Item]

# The exceptions that a failed call raises. gRPC raises ValueError for a call that begins while
# another thread closes the channel.
FAULTS = (grpc.RpcError, ValueError)

sleep = time.sleep


class Stop:
    """Ends a stream from outside.

    Attributes:
        is_set: whether the stream should end.
    """

    def __init__(self) -> None:
        self.is_set = False
        self._lock = threading.Lock()
        self._call: grpc.Call | None = None

    def watch(self, call: grpc.Call) -> None:
        """Register the call that set() ends. If set() was called already, end the call at once."""
        with self._lock:
            self._call = call
        if self.is_set:
            call.cancel()

    def set(self) -> None:
        """End the stream."""
        with self._lock:
            self.is_set = True
            call = self._call
        if call:
            call.cancel()


Mutex = threading.Lock


class Signal:
    """An event that can be waited for with a timeout."""

    def __init__(self) -> None:
        self._event = Event()
        self.set = self._event.set
        self.clear = self._event.clear

    def wait(self, timeout: float | None) -> bool:
        """Wait until the signal is set.

        Args:
            timeout: how long to wait, in seconds. None = forever.

        Returns:
            Whether the signal was set in time.
        """
        return self._event.wait(timeout)


class Mailbox(Generic[_Item]):
    """A queue to one thread. Any thread and the garbage collector may add items."""

    def __init__(self) -> None:
        # SimpleQueue is the only queue with a reentrant put(), which the garbage collector needs.
        self._items: SimpleQueue[_Item] = SimpleQueue()
        self.put = self._items.put

    def take(self, timeout: float | None) -> _Item | None:
        """Take the next item.

        Args:
            timeout: how long to wait, in seconds. None = forever.

        Returns:
            The item, or None if none arrived in time.
        """
        try:
            return self._items.get(timeout=timeout)
        except Empty:
            return None


class Watchdog:
    """Cancels a call that is silent for too long while its caller waits for it.

    The silence is checked four times within the permitted time.

    Attributes:
        expired: whether the watchdog has cancelled the call.
    """

    def __init__(self, call: grpc.Call, max_silence_s: float | None) -> None:
        self.expired = False
        self._call = call
        self._max_silence_s = math.inf if max_silence_s is None else max_silence_s
        self._due = math.inf
        self._closed = Event()
        if max_silence_s is not None:
            threading.Thread(target=self._run, name="sessiond-watchdog", daemon=True).start()

    def start(self) -> None:
        """Measure the silence from now on."""
        self._due = time.monotonic() + self._max_silence_s

    def pause(self) -> None:
        """Stop measuring while nobody waits for the call."""
        self._due = math.inf

    def close(self) -> None:
        """Stop permanently."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(self._max_silence_s / 4):
            if time.monotonic() >= self._due:
                self.expired = True
                self._call.cancel()
                return


def in_background(function: Callable[[], None]) -> None:
    """Call a function in a new daemon thread. The function must not raise."""
    threading.Thread(target=function, name="sessiond-events", daemon=True).start()


def scope() -> object:
    """Return the process, to which background work belongs."""
    return forks.generation


class Stubs:
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
        appends: StoreMessages, as `appends.call`.
        messages: GetMessages, whose messages have their JSON as bytes.
        store_encoded: StoreMessages with an encoded request.
        import_encoded: ImportMessages with encoded requests.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._generation = forks.generation
        self._lock = threading.Lock()
        self._streams: WeakSet[grpc.Call] = WeakSet()
        self._more: list[Stubs] = []
        if settings.credentials:
            self._channel = grpc.secure_channel(
                settings.target, settings.credentials, settings.options
            )
        else:
            self._channel = grpc.insecure_channel(settings.target, settings.options)
        self.sessions = SessionServiceStub(self._channel)
        self.tasks = TaskServiceStub(self._channel)
        self.bookmarks = BookmarkServiceStub(self._channel)
        self.processing = ProcessingServiceStub(self._channel)
        self.assets = AssetServiceStub(self._channel)
        self.conversations = ConversationServiceStub(self._channel)
        self.admin = AdminServiceStub(self._channel)
        self.appends = Coalescer(self.sessions, self.watch)
        self.messages: grpc.UnaryStreamMultiCallable[GetMessagesRequest, GetMessagesResponse] = (
            self._channel.unary_stream(
                GET_MESSAGES,
                request_serializer=GetMessagesRequest.SerializeToString,
                response_deserializer=raw(GetMessagesResponse).FromString,
            )
        )
        self.store_encoded: grpc.UnaryUnaryMultiCallable[bytes, StoreMessagesResponse] = (
            self._channel.unary_unary(
                STORE_MESSAGES, response_deserializer=StoreMessagesResponse.FromString
            )
        )
        self.import_encoded: grpc.StreamUnaryMultiCallable[bytes, ImportMessagesResponse] = (
            self._channel.stream_unary(
                IMPORT_MESSAGES, response_deserializer=ImportMessagesResponse.FromString
            )
        )

    def close(self) -> None:
        """End the running calls and close the channel."""
        if self.is_lost():
            return
        self._channel.close()
        for stubs in self._more:
            stubs.close()

    def is_usable(self) -> bool:
        """Return whether the channel belongs to this process."""
        return self._generation == forks.generation

    def is_lost(self) -> bool:
        """Return whether the channel belongs to the process that this one was forked from."""
        if self.is_usable():
            return False
        forks.keep(self)
        return True

    def with_room(self) -> Stubs:
        """Return stubs on a channel with room for a stream.

        A server or a proxy allows each connection some hundred calls at once; further calls wait.
        Streams are therefore spread over several channels, which leaves room for short calls.
        """
        with self._lock:
            for stubs in (self, *self._more):
                if len(stubs._streams) < STREAMS_A_CHANNEL:
                    return stubs
            self._more.append(Stubs(self._settings))
            return self._more[-1]

    def watch(self, stream: grpc.Call) -> None:
        """Count a stream. A closing channel ends its streams by itself."""
        with self._lock:
            self._streams.add(stream)

    def forget(self, stream: grpc.Call) -> None:
        """Remove a stream that has ended."""
        with self._lock:
            self._streams.discard(stream)

    def upload(
        self,
        method: UploadMethod[_Request, _Response],
        requests: Generator[_Request, None, None],
        *,
        timeout: float | None,
        metadata: Metadata,
    ) -> _Response:
        """Send a stream of requests, and return the response.

        Args:
            method: the method.
            requests: the requests.
            timeout: deadline of the call, in seconds. None = no deadline.
            metadata: sent with the call.

        Returns:
            The response.

        Raises:
            grpc.RpcError: if the call failed.
            Exception: any error raised by creating the requests.
        """
        raised: list[Exception] = []
        begun = Event()

        def watched() -> Iterator[_Request]:
            try:
                yield from requests
            except Exception as error:
                # gRPC would log and hide the error. The call is cancelled, because the server could
                # take a stream that merely breaks off for a complete one.
                raised.append(error)
                begun.wait()
                call.cancel()

        call = method.future(watched(), timeout=timeout, metadata=metadata)
        begun.set()
        try:
            return call.result()
        except grpc.FutureCancelledError:
            if raised:
                raise raised[0] from None
            # The future hides the status of a cancelled call. The call itself has it, and is an
            # RpcError.
            raise cast("grpc.RpcError", call) from None
        finally:
            # If the wait was interrupted, gRPC would continue to send in its own thread.
            call.cancel()


class Prefetch(Generic[_Response]):
    """The responses of a stream. Only the async client gains by requesting them early."""

    def __init__(self, call: Iterator[_Response]) -> None:
        self._call = call

    def __iter__(self) -> Iterator[_Response]:
        return self._call


def is_cancelled() -> bool:
    """Return False: threads are never cancelled."""
    return False


def run_blocking(function: Callable[..., _Item], *args: Any) -> _Item:
    """Call a function that waits for a disk, and return its result."""
    return function(*args)


def each(source: Source[_Item]) -> Iterator[_Item]:
    """Return the items of an iterable."""
    return iter(source)


def finished(result: object) -> None:
    """Do nothing: a handler has finished when it returns."""


@contextmanager
def repeated(interval_s: float, function: Callable[[], None]) -> Iterator[None]:
    """Call a function periodically in a new thread while the block runs.

    The function must not raise.
    """
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(interval_s):
            function()

    thread = threading.Thread(target=repeat, name="sessiond-repeated", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
