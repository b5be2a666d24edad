# Generated from _async/_connection.py by scripts/generate-sync-client. Do not edit.
"""One client's channel: opened when it is needed, and the way that every unary call takes."""

from __future__ import annotations

from collections.abc import Callable, Generator
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

import grpc

from sessiond._protocol.retry import CallRetry
from sessiond._protocol.settings import ClientSettings
from sessiond._protocol.status import error_of
from sessiond._sync._wire import FAULTS, Metadata, Stubs, is_cancelled, sleep
from sessiond.errors import ClientClosed, SessiondError

if TYPE_CHECKING:
    from sessiond._sync._wire import UnaryMethod, UploadMethod

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class Connection:
    """Holds the channel, and calls over it with deadlines, retries and typed errors."""

    def __init__(self, settings: ClientSettings) -> None:
        self.settings = settings
        self._lock = Lock()
        self._stubs: Stubs | None = None
        self._closed = False

    @property
    def metadata(self) -> Metadata:
        """Sent with every call."""
        return self.settings.metadata

    @property
    def stubs(self) -> Stubs:
        """The stubs on the channel, which is opened if it is not yet.

        Raises: ClientClosed after close().
        """
        stubs = self._stubs
        return stubs if stubs is not None else self._open(reopen=False)

    def open(self) -> None:
        """Open the channel, also after close(). The server is not called."""
        self._open(reopen=True)

    def close(self) -> None:
        """End what runs, and close the channel."""
        with self._lock:
            stubs, self._stubs, self._closed = self._stubs, None, True
        if stubs is not None:
            stubs.close()

    def call(
        self,
        method: UnaryMethod[_Request, _Response],
        request: _Request,
        timeout: float | None = None,
        *,
        is_repeatable: bool = True,
    ) -> _Response:
        """Make a unary call, again where that is worth it; a change must carry a request_id.

        Args:
            timeout: of all attempts together. Unit: seconds. None = the client's; infinite = none.
            is_repeatable: False for a change without a request_id, which might happen twice.
        Raises: SessiondError.
        """
        retry = CallRetry(self.settings.timeout if timeout is None else timeout)
        while True:
            try:
                return method(request, timeout=retry.deadline.remaining(), metadata=self.metadata)
            except FAULTS as fault:
                error = self.error_of(fault)
                delay = retry.delay_after(error) if is_repeatable else None
                if delay is None:
                    raise error from fault
            sleep(delay)

    def upload(
        self,
        method: UploadMethod[_Request, _Response],
        requests: Callable[[], Generator[_Request, None]],
        *,
        timeout: float | None,
        is_repeatable: bool,
    ) -> _Response:
        """Make a client-streaming call, again where that is worth it and the requests can be made again.

        Args:
            timeout: of all attempts together. Unit: seconds. None = none.
        Raises: SessiondError, and whatever making the requests raises.
        """
        retry = CallRetry(timeout)
        while True:
            try:
                return self.stubs.upload(
                    method, requests(), timeout=retry.deadline.remaining(), metadata=self.metadata
                )
            except FAULTS as fault:
                error = self.error_of(fault)
                delay = retry.delay_after(error) if is_repeatable else None
                if delay is None:
                    raise error from fault
            sleep(delay)

    def error_of(self, fault: BaseException) -> SessiondError:
        """The typed error of a failed call. A cancellation of the running task is raised on."""
        if self._closed and not is_cancelled():
            return ClientClosed("the client was closed during the call")
        if not isinstance(fault, grpc.RpcError):
            raise fault
        return error_of(fault, self.settings.target)

    def _open(self, *, reopen: bool) -> Stubs:
        with self._lock:
            if self._closed and not reopen:
                raise ClientClosed("the client is closed; start() opens it again")
            self._closed = False
            if self._stubs is None:
                self._stubs = Stubs(self.settings)
            return self._stubs
