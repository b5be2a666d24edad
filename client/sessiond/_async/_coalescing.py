"""StoreMessages calls that are made at the same time travel together.

The twin is sessiond/_sync/_coalescing.py, by hand as well.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import grpc
from grpc import aio

from sessiond.v1.session_service_pb2 import (
    BatchStoreMessagesRequest,
    BatchStoreMessagesResponse,
    BatchStoreMessagesResult,
    StoreMessagesRequest,
    StoreMessagesResponse,
)

if TYPE_CHECKING:
    from typing import TypeAlias

    from sessiond.v1.session_service_pb2_grpc import SessionServiceAsyncStub

    _Metadata: TypeAlias = tuple[tuple[str, str], ...]
    _Single: TypeAlias = aio.UnaryUnaryCall[StoreMessagesRequest, StoreMessagesResponse]
    _Stream: TypeAlias = aio.UnaryStreamCall[BatchStoreMessagesRequest, BatchStoreMessagesResponse]

# A larger request gains nothing by company, and would hold it up.
MAX_SHARED_BYTES = 64 * 1024

# Of one batch. The server takes as many requests, and far more bytes.
MAX_REQUESTS = 256
MAX_BATCH_BYTES = 1024 * 1024

# While so many are under way, further calls wait for one of them to land, and become a batch. But no longer than this: where the server is
# far, that would take longer than it saves.
MAX_FLIGHTS = 2
MAX_WAIT_S = 0.005

# From so many on, those that wait are divided among the flights that are free, so that client, server and database work at the same time.
# Smaller batches would cost more than that gains.
MIN_DIVIDED = 32

_DETAILS_KEY = "grpc-status-details-bin"
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class _Call:
    """One call that waits for its departure, or for its answer."""

    __slots__ = ("ended", "flight", "metadata", "request", "size", "timer")

    def __init__(
        self,
        request: StoreMessagesRequest,
        size: int,
        timeout: float | None,
        metadata: _Metadata,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.request = request
        self.size = size
        self.metadata = metadata
        self.flight: _Flight | None = None
        # The answer; or the call as one of its own, where it is alone.
        self.ended: asyncio.Future[StoreMessagesResponse | _Single] = loop.create_future()
        self.timer = None if timeout is None else loop.call_later(timeout, self._expire)

    def remaining(self, now: float) -> float | None:
        """Seconds to its deadline. None = there is none."""
        return None if self.timer is None else max(0.0, self.timer.when() - now)

    def succeed(self, answer: StoreMessagesResponse | _Single) -> None:
        if not self.ended.done():
            self.ended.set_result(answer)

    def fail(self, error: aio.AioRpcError) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)

    def _expire(self) -> None:
        self.fail(_error(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))


class _Flight:
    """What is under way: a batch, or a call of its own. calls: those without a result, by their place."""

    __slots__ = ("calls", "counts", "stream", "timer")

    def __init__(self, calls: list[_Call]) -> None:
        self.calls = dict(enumerate(calls))
        self.counts = True
        self.stream: _Stream | None = None
        self.timer: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Cancel it where nobody waits for it any more."""
        if self.stream and self.calls and all(call.ended.done() for call in self.calls.values()):
            self.stream.cancel()


class Coalescer:
    """`StoreMessages` of a stub, for many callers at the same time.

    Calls that are made in one tick of the event loop, or while others are under way, become one BatchStoreMessages; a call that is alone is
    a StoreMessages, at once. Its caller cannot tell: each has its own deadline and its own error, and may be cancelled by itself.
    """

    def __init__(
        self, sessions: SessionServiceAsyncStub, watch: Callable[[aio.Call], None]
    ) -> None:
        """watch: is told of every stream, to end it when the channel is closed."""
        self.call = cast(
            "aio.UnaryUnaryMultiCallable[StoreMessagesRequest, StoreMessagesResponse]", self._call
        )
        """As StoreMessages of the stub; of its options timeout and metadata are there."""
        self._sessions = sessions
        self._watch = watch
        self._waiting: list[_Call] = []
        self._is_due = False
        # Those that others wait for.
        self._flights = 0
        # How many calls to a session are under way. Another one would only wait for them, and at the server.
        self._busy: Counter[str] = Counter()
        # The event loop itself keeps only weak references to its tasks.
        self._tasks: set[asyncio.Task[None]] = set()
        # Until a server says that it does not know BatchStoreMessages.
        self._is_known = True
        self._is_closed = False

    async def _call(
        self, request: StoreMessagesRequest, *, timeout: float | None, metadata: _Metadata
    ) -> StoreMessagesResponse:
        size = request.ByteSize()
        if not self._is_known or self._is_closed or size > MAX_SHARED_BYTES:
            return await self._sessions.StoreMessages(request, timeout=timeout, metadata=metadata)
        call = _Call(request, size, timeout, metadata, asyncio.get_running_loop())
        self._waiting.append(call)
        self._announce()
        try:
            answer = await call.ended
        except asyncio.CancelledError:
            if not call.ended.cancelled() and not isinstance(
                single := call.ended.result(), StoreMessagesResponse
            ):
                single.cancel()
            raise
        finally:
            if call.timer:
                call.timer.cancel()
            if call.flight:
                call.flight.look()
        return answer if isinstance(answer, StoreMessagesResponse) else await answer

    def close(self) -> None:
        """End what waits. What is under way ends with the channel."""
        self._is_closed = True
        for call in self._waiting:
            call.fail(_error(grpc.StatusCode.CANCELLED, "the channel is closed"))
        self._waiting.clear()

    def _announce(self) -> None:
        if self._waiting and not self._is_due and self._flights < MAX_FLIGHTS:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._depart)

    def _depart(self) -> None:
        self._is_due = False
        while self._flights < MAX_FLIGHTS and (calls := self._taken()):
            flight = self._take_off(calls)
            if len(calls) == 1:
                self._send_alone(flight, calls[0])
            else:
                task = asyncio.get_running_loop().create_task(self._send(flight, calls))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _taken(self) -> list[_Call]:
        """The next that go together, out of those that wait."""
        count = len(self._waiting)
        most = min(
            MAX_REQUESTS,
            count if count < MIN_DIVIDED else -(-count // (MAX_FLIGHTS - self._flights)),
        )
        taken: list[_Call] = []
        left: list[_Call] = []
        size = 0
        for call in self._waiting:
            if call.ended.done():
                continue
            if self._busy[call.request.session_id]:
                left.append(call)
                continue
            size += call.size
            # Once one has to stay, so do all after it: none overtakes another one of its session.
            (taken if len(taken) < most and size <= MAX_BATCH_BYTES else left).append(call)
        self._waiting = left
        return taken

    def _take_off(self, calls: list[_Call]) -> _Flight:
        flight = _Flight(calls)
        for call in calls:
            call.flight = flight
            self._busy[call.request.session_id] += 1
        self._flights += 1
        flight.timer = asyncio.get_running_loop().call_later(MAX_WAIT_S, self._release, flight)
        return flight

    def _release(self, flight: _Flight) -> None:
        """Nobody waits any longer for it to land."""
        if flight.counts:
            flight.counts = False
            self._flights -= 1
            self._announce()

    def _landed(self, flight: _Flight, place: int) -> _Call | None:
        """The call at a place, which has its result, or is to have none."""
        call = flight.calls.pop(place, None)
        if call:
            session_id = call.request.session_id
            self._busy[session_id] -= 1
            if not self._busy[session_id]:
                del self._busy[session_id]
        return call

    def _send_alone(self, flight: _Flight, call: _Call) -> None:
        remaining = call.remaining(asyncio.get_running_loop().time())
        single = self._sessions.StoreMessages(
            call.request, timeout=remaining, metadata=call.metadata
        )

        def landed(_: object) -> None:
            self._landed(flight, 0)
            self._end(flight)

        single.add_done_callback(landed)
        call.succeed(single)

    async def _send(self, flight: _Flight, calls: list[_Call]) -> None:
        error = _error(grpc.StatusCode.CANCELLED, "the call was cancelled")
        try:
            now = asyncio.get_running_loop().time()
            remaining = [call.remaining(now) for call in calls]
            # Each caller keeps its own deadline; the latest one is that of the batch.
            timeout = (
                None
                if None in remaining
                else max(seconds for seconds in remaining if seconds is not None)
            )
            request = BatchStoreMessagesRequest(requests=[call.request for call in calls])
            stream = flight.stream = self._sessions.BatchStoreMessages(
                request, timeout=timeout, metadata=calls[0].metadata
            )
            self._watch(stream)
            async for response in stream:
                for result in response.results:
                    if call := self._landed(flight, result.index):
                        if result.HasField("response"):
                            call.succeed(result.response)
                        else:
                            call.fail(_error_in(result))
                # What is not done yet waits for others at the server, as it would by itself.
                self._release(flight)
                self._announce()
            error = _error(
                grpc.StatusCode.UNAVAILABLE,
                "the stream ended without a result, which a server never does",
            )
        except aio.AioRpcError as fault:
            error = fault
            if fault.code() is grpc.StatusCode.UNIMPLEMENTED:
                self._is_known = False
        finally:
            # Whatever happened, nobody is left waiting.
            flight.stream = None
            for place, call in list(flight.calls.items()):
                self._landed(flight, place)
                if self._is_known:
                    # An exception of its own for each, because raising it changes it.
                    call.fail(
                        aio.AioRpcError(
                            error.code(),
                            error.initial_metadata(),
                            error.trailing_metadata(),
                            error.details(),
                        )
                    )
                elif not call.ended.done():
                    self._send_alone(self._take_off([call]), call)
            self._end(flight)

    def _end(self, flight: _Flight) -> None:
        if flight.timer:
            flight.timer.cancel()
        self._release(flight)
        # Calls of its sessions can go now, whether it was waited for or not.
        self._announce()


def _error(
    code: grpc.StatusCode, text: str, trailers: aio.Metadata | None = None
) -> aio.AioRpcError:
    return aio.AioRpcError(code, aio.Metadata(), trailers or aio.Metadata(), text)


def _error_in(result: BatchStoreMessagesResult) -> aio.AioRpcError:
    """The error of one request, as if it had been a call."""
    # It is a google.rpc.Status, field by field.
    trailers = aio.Metadata((_DETAILS_KEY, result.error.SerializeToString()))
    return _error(
        _CODES.get(result.error.code, grpc.StatusCode.UNKNOWN), result.error.message, trailers
    )
