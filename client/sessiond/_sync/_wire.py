"""What differs between the two clients: the channel, sleeping, sending a stream, work in the background.

The twin is sessiond/_async/_wire.py, by hand as well.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, cast

import grpc

from sessiond._settings import Settings
from sessiond.v1.admin_service_pb2_grpc import AdminServiceStub
from sessiond.v1.asset_service_pb2_grpc import AssetServiceStub
from sessiond.v1.bookmark_service_pb2_grpc import BookmarkServiceStub
from sessiond.v1.processing_service_pb2_grpc import ProcessingServiceStub
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
    admin: AdminServiceStub
    """AdminService."""

    def __init__(self, settings: Settings) -> None:
        if settings.credentials:
            self._channel = grpc.secure_channel(settings.target, settings.credentials, settings.options)
        else:
            self._channel = grpc.insecure_channel(settings.target, settings.options)
        self.sessions = SessionServiceStub(self._channel)
        self.tasks = TaskServiceStub(self._channel)
        self.bookmarks = BookmarkServiceStub(self._channel)
        self.processing = ProcessingServiceStub(self._channel)
        self.assets = AssetServiceStub(self._channel)
        self.admin = AdminServiceStub(self._channel)

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
        """Send a stream of requests and wait for the answer."""
        call = method.future(requests, timeout=timeout, metadata=metadata)
        try:
            return call.result()
        except grpc.FutureCancelledError:
            # The future hides the status of a cancelled call; the call itself has it, and is an RpcError.
            raise cast("grpc.RpcError", call) from None
        finally:
            # Also where the waiting is interrupted: gRPC would go on sending in its own thread.
            call.cancel()


def is_cancelled() -> bool:
    """Whether the running task itself is asked to stop: threads never are."""
    return False


def in_thread(function: Callable[[], _Item]) -> _Item:
    """Work on files: there is no loop to be held up."""
    return function()


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
