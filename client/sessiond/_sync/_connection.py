# Generated from _async/_connection.py by scripts/generate-sync-client. Do not edit.
"""A client's channel, opened on first use, and the retries of unary calls and uploads."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

import grpc

from sessiond._protocol import forks
from sessiond._protocol.retry import CallRetry
from sessiond._protocol.settings import ClientSettings
from sessiond._protocol.status import error_of, never_began
from sessiond._protocol.tracing import client_span, with_context
from sessiond._sync._wire import FAULTS, Metadata, Stubs, is_cancelled, sleep
from sessiond.errors import ClientClosed, DeadlineExceeded, SessiondError

if TYPE_CHECKING:
    from sessiond._sync._wire import Attempt, UnaryMethod, UploadMethod

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class Connection:
    """Holds the channel, and makes calls over it, with deadlines, retries and typed errors."""

    def __init__(self, settings: ClientSettings) -> None:
        self.settings = settings
        self._lock = Lock()
        self._generation = forks.generation
        # The stubs that were used last, and the stubs of all open channels.
        self._stubs: Stubs | None = None
        self._all: list[Stubs] = []
        self._closed = False

    @property
    def metadata(self) -> Metadata:
        """The metadata sent with every call, with the context of the current trace."""
        return with_context(self.settings.metadata)

    @property
    def stubs(self) -> Stubs:
        """The stubs on the channel, which is opened if necessary.

        Each event loop and each forked process has a channel of its own.

        Raises:
            ClientClosed: after close().
            ClientForked: if gRPC does not work in this process.
        """
        stubs = self._stubs
        if stubs is not None and stubs.is_usable():
            return stubs
        return self._open(reopen=False)

    def open(self) -> None:
        """Open the channel, even after close(), without calling the server."""
        self._open(reopen=True)

    def close(self) -> None:
        """End the running calls and close the channel."""
        self._check_fork()
        with self._lock:
            opened, self._all, self._stubs, self._closed = self._all, [], None, True
        for stubs in opened:
            stubs.close()

    def call(
        self,
        stub: Callable[[Stubs], UnaryMethod[_Request, _Response]],
        request: _Request,
        timeout: float | None = None,
        *,
        is_repeatable: bool = True,
    ) -> _Response:
        """Make a unary call, and retry it after transient errors.

        Args:
            stub: selects the method; called again for each attempt.
            request: the request; a change must carry a request_id.
            timeout: deadline over all attempts, in seconds. Default: the client's; math.inf = no
                deadline.
            is_repeatable: False for a change without a request_id, which a retry could make twice.
                Such a call is retried only if it has certainly not begun.

        Returns:
            The response.

        Raises:
            SessiondError: if the call failed.
        """
        with client_span(lambda: stub(self.stubs)):
            return self._retried(
                lambda remaining: stub(self.stubs)(
                    request, timeout=remaining, metadata=self.metadata
                ),
                self.settings.timeout if timeout is None else timeout,
                is_repeatable,
            )

    def upload(
        self,
        stub: Callable[[Stubs], UploadMethod[_Request, _Response]],
        requests: Callable[[], Generator[_Request, None]],
        *,
        timeout: float | None,
        is_repeatable: bool,
        refusal: _Request | None = None,
    ) -> _Response:
        """Make a client-streaming call, and retry it after transient errors.

        Args:
            stub: selects the method; called again for each attempt.
            requests: creates the requests of an attempt.
            timeout: deadline over all attempts, in seconds. None = no deadline.
            is_repeatable: False if the requests can be created only once.
            refusal: a request that makes the server refuse the whole call. It is sent if creating
                the requests raises, because the server could take a stream that merely breaks off
                for a complete one.

        Returns:
            The response.

        Raises:
            SessiondError: if the call failed.
            Exception: any error raised by creating the requests.
        """
        raised: list[Exception] = []

        def attempt(remaining: float | None) -> _Response:
            nonlocal raised
            # Each attempt has a list of its own, because gRPC's thread may still serve an earlier
            # attempt.
            raised = []
            pieces = requests() if refusal is None else _guarded(requests(), refusal, raised)
            return self.stubs.upload(
                stub(self.stubs), pieces, timeout=remaining, metadata=self.metadata
            )

        try:
            with client_span(lambda: stub(self.stubs)):
                return self._retried(attempt, timeout, is_repeatable)
        except SessiondError:
            if raised:
                raise raised[0] from None
            raise

    def error_of(self, fault: BaseException) -> SessiondError:
        """Return the typed error of a failed call.

        If the running task itself was cancelled, raise the CancelledError again.
        """
        if self._closed and not is_cancelled():
            return ClientClosed("the client was closed during the call")
        if not isinstance(fault, grpc.RpcError):
            raise fault
        return error_of(fault, self.settings.target)

    def _retried(
        self, attempt: Attempt[_Response], timeout: float | None, is_repeatable: bool
    ) -> _Response:
        retry = CallRetry(timeout)
        earlier: SessiondError | None = None
        while True:
            try:
                return attempt(retry.deadline.remaining())
            except FAULTS as fault:
                error = self.error_of(fault)
                may_repeat = is_repeatable or never_began(error)
                delay = retry.delay_after(error) if may_repeat else None
                if delay is None:
                    if earlier and isinstance(error, DeadlineExceeded):
                        error.add_note(f"an earlier attempt failed: {earlier}")
                    raise error from fault
                earlier = error
            sleep(delay)

    def _open(self, *, reopen: bool) -> Stubs:
        self._check_fork()
        with self._lock:
            if self._closed and not reopen:
                raise ClientClosed("the client is closed; start() opens it again")
            self._closed = False
            self._all = [stubs for stubs in self._all if not stubs.is_lost()]
            for stubs in self._all:
                if stubs.is_usable():
                    break
            else:
                stubs = Stubs(self.settings)
                self._all.append(stubs)
            self._stubs = stubs
            return stubs

    def _check_fork(self) -> None:
        """Replace the lock after a fork, since another thread of the parent may have held it."""
        if self._generation != forks.generation:
            self._generation, self._lock = forks.generation, Lock()


class Calls:
    """The base of the classes that make a service's calls."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection


def _guarded(
    requests: Generator[_Request, None], refusal: _Request, raised: list[Exception]
) -> Generator[_Request, None]:
    """Yield the requests; if creating them raises, store the error in `raised`, yield `refusal`."""
    with closing(requests):
        try:
            for request in requests:
                yield request
        except Exception as error:
            raised.append(error)
            yield refusal
