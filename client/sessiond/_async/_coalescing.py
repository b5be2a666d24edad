"""Sends concurrent StoreMessages calls together.

The sync twin is sessiond/_sync/_coalescing.py. Both are written by hand.
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

# A larger request gains nothing from a batch, and would delay the others.
MAX_SHARED_BYTES = 64 * 1024

# Limits of a batch. The server has the same limit of requests, but accepts far more bytes.
MAX_REQUESTS = 256
MAX_BATCH_BYTES = 1024 * 1024

# While this many batches are in flight, further calls wait for one of them to finish, and then
# become a batch. They wait at most MAX_WAIT_S: if the server is distant, waiting for a response
# would cost more time than batching saves.
MAX_IN_FLIGHT = 2
MAX_WAIT_S = 0.005

# If at least this many calls wait, they are split among the batches that may be started, so that
# client, server and database work at the same time. Splitting fewer calls costs more than it gains.
MIN_SPLIT = 32

_DETAILS_KEY = "grpc-status-details-bin"
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class _Call:
    """One caller's StoreMessages call, from its start to its response."""

    __slots__ = ("batch", "ended", "metadata", "request", "size", "timer")

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
        self.batch: _Batch | None = None
        # The response, or the gRPC call if the request is sent alone.
        self.ended: asyncio.Future[StoreMessagesResponse | _Single] = loop.create_future()
        self.timer = None if timeout is None else loop.call_later(timeout, self._expire)

    def remaining(self, now: float) -> float | None:
        """Return the seconds until the call's deadline, or None if there is none."""
        return None if self.timer is None else max(0.0, self.timer.when() - now)

    def succeed(self, result: StoreMessagesResponse | _Single) -> None:
        if not self.ended.done():
            self.ended.set_result(result)

    def fail(self, error: aio.AioRpcError) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)

    def _expire(self) -> None:
        self.fail(_error(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))


class _Batch:
    """Calls that are in flight together, or a single call.

    Attributes:
        calls: the calls without a result, by their index.
        is_awaited: whether the batch counts towards MAX_IN_FLIGHT. It does until its first results
            arrive, but for at most MAX_WAIT_S.
        stream: the gRPC call of the batch.
        timer: ends the wait of other calls for this batch.
    """

    __slots__ = ("calls", "is_awaited", "stream", "timer")

    def __init__(self, calls: list[_Call], timer: asyncio.TimerHandle) -> None:
        self.calls = dict(enumerate(calls))
        self.is_awaited = True
        self.stream: _Stream | None = None
        self.timer = timer

    def cancel_if_abandoned(self) -> None:
        """Cancel the gRPC call if no caller waits for it any longer."""
        if self.stream and self.calls and all(call.ended.done() for call in self.calls.values()):
            self.stream.cancel()


class Coalescer:
    """`StoreMessages` of a stub, for many concurrent callers.

    Calls made in one tick of the event loop, or while others are in flight, become one
    BatchStoreMessages call. A single call is sent as StoreMessages. If the previous call was also
    sent on its own, and has ended, the next call does not wait for the end of the tick. Callers see
    no difference: each call has its own deadline and error, and can be cancelled on its own.
    """

    def __init__(
        self, sessions: SessionServiceAsyncStub, watch: Callable[[aio.Call], None]
    ) -> None:
        """Make the calls of a stub.

        Args:
            sessions: the stub.
            watch: called with each stream; must end the stream when the channel is closed.
        """
        self.call = cast(
            "aio.UnaryUnaryMultiCallable[StoreMessagesRequest, StoreMessagesResponse]", self._call
        )
        """StoreMessages of the stub, with the options timeout and metadata."""
        self._sessions = sessions
        self._watch = watch
        self._waiting: list[_Call] = []
        self._is_scheduled = False
        # Number of batches that count towards MAX_IN_FLIGHT: those whose is_awaited is True.
        self._in_flight = 0
        # Whether the calls come one after the other, so that gathering them would only delay them.
        self._is_alone = False
        # Number of calls in flight, by session. While a session has any, its further calls wait
        # here, because they would otherwise wait at the server.
        self._busy: Counter[str] = Counter()
        # The event loop keeps only weak references to its tasks.
        self._tasks: set[asyncio.Task[None]] = set()
        # False after a server has answered that it does not know BatchStoreMessages.
        self._is_known = True
        self._is_closed = False

    async def _call(
        self, request: StoreMessagesRequest, *, timeout: float | None, metadata: _Metadata
    ) -> StoreMessagesResponse:
        size = request.ByteSize()
        if not self._is_known or self._is_closed or size > MAX_SHARED_BYTES:
            return await self._sessions.StoreMessages(request, timeout=timeout, metadata=metadata)
        if self._is_alone and not self._busy and not self._waiting:
            return await self._call_alone(request, timeout, metadata)
        self._is_alone = False
        call = _Call(request, size, timeout, metadata, asyncio.get_running_loop())
        self._waiting.append(call)
        self._schedule()
        try:
            result = await call.ended
        except asyncio.CancelledError:
            if not call.ended.cancelled() and not isinstance(
                single := call.ended.result(), StoreMessagesResponse
            ):
                single.cancel()
            raise
        finally:
            if call.timer:
                call.timer.cancel()
            if call.batch:
                call.batch.cancel_if_abandoned()
        return result if isinstance(result, StoreMessagesResponse) else await result

    async def _call_alone(
        self, request: StoreMessagesRequest, timeout: float | None, metadata: _Metadata
    ) -> StoreMessagesResponse:
        """Make a call while no other call is in flight.

        While this call is in flight, a later call waits for it only if both calls are to the same
        session.
        """
        self._busy[request.session_id] = 1
        try:
            return await self._sessions.StoreMessages(request, timeout=timeout, metadata=metadata)
        finally:
            del self._busy[request.session_id]
            if self._waiting:
                self._schedule()

    def close(self) -> None:
        """Fail the waiting calls. Calls in flight end with the channel."""
        self._is_closed = True
        for call in self._waiting:
            call.fail(_error(grpc.StatusCode.CANCELLED, "the channel is closed"))
        self._waiting.clear()

    def _schedule(self) -> None:
        if self._waiting and not self._is_scheduled and self._in_flight < MAX_IN_FLIGHT:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._is_scheduled = False
        while self._in_flight < MAX_IN_FLIGHT and (calls := self._next_calls()):
            batch = self._start(calls)
            if len(calls) == 1:
                self._is_alone = len(self._busy) == 1 and not self._waiting
                self._send_single(batch, calls[0])
            else:
                task = asyncio.get_running_loop().create_task(self._send(batch, calls))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _next_calls(self) -> list[_Call]:
        """Return the calls of the next batch, removed from the waiting calls."""
        count = len(self._waiting)
        most = min(
            MAX_REQUESTS,
            count if count < MIN_SPLIT else -(-count // (MAX_IN_FLIGHT - self._in_flight)),
        )
        chosen: list[_Call] = []
        left: list[_Call] = []
        size = 0
        for call in self._waiting:
            if call.ended.done():
                continue
            if self._busy[call.request.session_id]:
                left.append(call)
                continue
            size += call.size
            # Once a call does not fit, all later calls wait for the next batch, too, so that no
            # call overtakes an earlier one of its session.
            (chosen if len(chosen) < most and size <= MAX_BATCH_BYTES else left).append(call)
        self._waiting = left
        return chosen

    def _start(self, calls: list[_Call]) -> _Batch:
        loop = asyncio.get_running_loop()
        batch: _Batch = _Batch(
            calls, loop.call_later(MAX_WAIT_S, lambda: self._stop_awaiting(batch))
        )
        for call in calls:
            call.batch = batch
            self._busy[call.request.session_id] += 1
        self._in_flight += 1
        return batch

    def _stop_awaiting(self, batch: _Batch) -> None:
        """Stop waiting for this batch, so that waiting calls can be sent."""
        if batch.is_awaited:
            batch.is_awaited = False
            self._in_flight -= 1
            self._schedule()

    def _remove(self, batch: _Batch, index: int) -> _Call | None:
        """Remove a finished call from its batch."""
        call = batch.calls.pop(index, None)
        if call:
            session_id = call.request.session_id
            self._busy[session_id] -= 1
            if not self._busy[session_id]:
                del self._busy[session_id]
        return call

    def _send_single(self, batch: _Batch, call: _Call) -> None:
        remaining = call.remaining(asyncio.get_running_loop().time())
        single = self._sessions.StoreMessages(
            call.request, timeout=remaining, metadata=call.metadata
        )

        def ended(_: object) -> None:
            self._remove(batch, 0)
            self._finish(batch)

        single.add_done_callback(ended)
        call.succeed(single)

    async def _send(self, batch: _Batch, calls: list[_Call]) -> None:
        error = _error(grpc.StatusCode.CANCELLED, "the call was cancelled")
        try:
            now = asyncio.get_running_loop().time()
            remaining = [call.remaining(now) for call in calls]
            # Each caller keeps its own deadline; the batch has the latest one.
            timeout = (
                None
                if None in remaining
                else max(seconds for seconds in remaining if seconds is not None)
            )
            request = BatchStoreMessagesRequest(requests=[call.request for call in calls])
            stream = batch.stream = self._sessions.BatchStoreMessages(
                request, timeout=timeout, metadata=calls[0].metadata
            )
            self._watch(stream)
            async for response in stream:
                for result in response.results:
                    if call := self._remove(batch, result.index):
                        if result.HasField("response"):
                            call.succeed(result.response)
                        else:
                            call.fail(_error_in(result))
                # The remaining calls of the batch wait for other calls at the server.
                self._stop_awaiting(batch)
                self._schedule()
            error = _error(
                grpc.StatusCode.UNAVAILABLE, "the server ended the stream before all results"
            )
        except aio.AioRpcError as fault:
            error = fault
            if fault.code() is grpc.StatusCode.UNIMPLEMENTED:
                self._is_known = False
        finally:
            # Every caller must get a result.
            batch.stream = None
            for index, call in list(batch.calls.items()):
                self._remove(batch, index)
                if self._is_known:
                    # Each call needs its own exception, because raising an exception changes it.
                    call.fail(
                        aio.AioRpcError(
                            error.code(),
                            error.initial_metadata(),
                            error.trailing_metadata(),
                            error.details(),
                        )
                    )
                elif not call.ended.done():
                    self._send_single(self._start([call]), call)
            self._finish(batch)

    def _finish(self, batch: _Batch) -> None:
        batch.timer.cancel()
        self._stop_awaiting(batch)
        # Calls that waited only because their session was busy can be sent now.
        self._schedule()


def _error(
    code: grpc.StatusCode, text: str, trailers: aio.Metadata | None = None
) -> aio.AioRpcError:
    return aio.AioRpcError(code, aio.Metadata(), trailers or aio.Metadata(), text)


def _error_in(result: BatchStoreMessagesResult) -> aio.AioRpcError:
    """Return the error of one request, as if it had been a call of its own."""
    trailers = aio.Metadata((_DETAILS_KEY, result.error.SerializeToString()))
    return _error(
        _CODES.get(result.error.code, grpc.StatusCode.UNKNOWN), result.error.message, trailers
    )
