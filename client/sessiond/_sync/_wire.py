"""What differs between the two clients: the channel, sleeping, sending a stream, work in the background.

The twin is sessiond/_async/_wire.py, by hand as well.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import grpc

from sessiond._sync._coalescing import Coalescer
from sessiond._requests.encoded import IMPORT_MESSAGES, STORE_MESSAGES
from sessiond._protocol.settings import ClientSettings
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

    UnaryMethod: TypeAlias = grpc.UnaryUnaryMultiCallable
    UploadMethod: TypeAlias = grpc.StreamUnaryMultiCallable

_Item = TypeVar("_Item")
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

Metadata = tuple[tuple[str, str], ...]
Source = Iterable[_Item]

# What a failed call raises.
FAULTS = (grpc.RpcError,)

sleep = time.sleep


class Stop:
    """Ends a stream from outside."""

    def __init__(self) -> None:
        self.is_set = False
        self._lock = threading.Lock()
        self._call: grpc.Call | None = None

    def watch(self, call: grpc.Call) -> None:
        """The call to end; at once, where it is set already."""
        with self._lock:
            self._call = call
        if self.is_set:
            call.cancel()

    def set(self) -> None:
        with self._lock:
            self.is_set = True
            call = self._call
        if call:
            call.cancel()


Mutex = threading.Lock


class Signal:
    """Something to wait for."""

    def __init__(self) -> None:
        self._event = Event()
        self.set = self._event.set
        self.clear = self._event.clear

    def wait(self, timeout: float | None) -> bool:
        """Whether it was set in time. timeout: unit seconds; None = no end."""
        return self._event.wait(timeout)


class Mailbox(Generic[_Item]):
    """Items from anywhere, the garbage collector included, for one thread that takes them."""

    def __init__(self) -> None:
        # Of the queues the one that may be put to while it is being put to.
        self._items: SimpleQueue[_Item] = SimpleQueue()
        self.put = self._items.put

    def take(self, timeout: float | None) -> _Item | None:
        """The next item. None = there was none in time. timeout: unit seconds; None = no end."""
        try:
            return self._items.get(timeout=timeout)
        except Empty:
            return None


class Watchdog:
    """Cancels a call that is silent for too long while somebody waits for it. It looks some times within that."""

    def __init__(self, call: grpc.Call, silence_s: float) -> None:
        self.has_bitten = False
        self._call = call
        self._silence_s = silence_s
        self._due = float("inf")
        self._ended = Event()
        threading.Thread(target=self._run, name="sessiond-watchdog", daemon=True).start()

    def wake(self) -> None:
        """From now on it counts."""
        self._due = time.monotonic() + self._silence_s

    def rest(self) -> None:
        """Nobody waits for the call."""
        self._due = float("inf")

    def end(self) -> None:
        """It is not needed any more."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(self._silence_s / 4):
            if time.monotonic() >= self._due:
                self.has_bitten = True
                self._call.cancel()
                return


def in_background(function: Callable[[], None]) -> None:
    """Call a function in a thread of its own, which does not keep the program from ending. It must not raise."""
    threading.Thread(target=function, name="sessiond-events", daemon=True).start()


class Stubs:
    """The generated stubs on the client's channel, for calls that the client does not wrap. They send no API key by themselves:
    give `metadata=client.metadata`.
    """

    sessions: SessionServiceStub
    """SessionService."""
    tasks: TaskServiceStub
    """TaskService."""
    bookmarks: BookmarkServiceStub
    """BookmarkService."""
    processing: ProcessingServiceStub
    """ProcessingService."""
    assets: AssetServiceStub
    """AssetService."""
    conversations: ConversationServiceStub
    """ConversationService."""
    admin: AdminServiceStub
    """AdminService."""

    def __init__(self, settings: ClientSettings) -> None:
        if settings.credentials:
            self._channel = grpc.secure_channel(settings.target, settings.credentials, settings.options)
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
        self.store_encoded: grpc.UnaryUnaryMultiCallable[bytes, StoreMessagesResponse] = self._channel.unary_unary(STORE_MESSAGES, response_deserializer=StoreMessagesResponse.FromString)
        """StoreMessages with a request that is encoded already."""
        self.import_encoded: grpc.StreamUnaryMultiCallable[bytes, ImportMessagesResponse] = self._channel.stream_unary(
            IMPORT_MESSAGES, response_deserializer=ImportMessagesResponse.FromString
        )
        """ImportMessages with pieces that are encoded already."""

    def close(self) -> None:
        """Ends what runs on the channel, and closes it."""
        self._channel.close()

    def watch(self, stream: grpc.Call) -> None:
        """Nothing to do: a closing channel ends its streams."""

    def upload(
        self,
        method: UploadMethod[_Request, _Response],
        requests: Generator[_Request, None, None],
        *,
        timeout: float | None,
        metadata: Metadata,
    ) -> _Response:
        """Send a stream of requests and wait for the answer. Raises also what making the requests raises."""
        raised: list[Exception] = []
        begun = Event()

        def watched() -> Iterator[_Request]:
            try:
                yield from requests
            except Exception as error:
                # gRPC would log it and hide it. The call ends here, since a stream that merely breaks off could pass for one that is
                # complete.
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
            # The future hides the status of a cancelled call; the call itself has it, and is an RpcError.
            raise cast("grpc.RpcError", call) from None
        finally:
            # Also where the waiting is interrupted: gRPC would go on sending in its own thread.
            call.cancel()


class Ahead(Generic[_Response]):
    """The responses of a stream. Only the asyncio client gains by asking for the next one early."""

    def __init__(self, call: Iterator[_Response]) -> None:
        self._call = call

    def __iter__(self) -> Iterator[_Response]:
        return self._call

    def close(self) -> None:
        """The next one is not wanted any more."""


def is_cancelled() -> bool:
    """Whether the running task itself is asked to stop: threads never are."""
    return False


def run(function: Callable[..., _Item], *args: Any) -> _Item:
    """Call what waits for a disk."""
    return function(*args)


def each(source: Source[_Item]) -> Iterator[_Item]:
    """The items of an iterable."""
    return iter(source)


def finished(made: object) -> None:
    """Nothing to do: a handler is finished when it returns."""


@contextmanager
def repeated(interval_s: float, function: Callable[[], None]) -> Iterator[None]:
    """Call a function again and again while the block runs, in a thread of its own. It must not raise."""
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
