# Generated from _async/_streams.py by scripts/generate-sync-client. Do not edit.
"""Answers that come in batches: a stream that goes on where it broke off, and a listing that pages by itself."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import repeat

from sessiond._protocol.retry import StreamRetry, TurnRetry
from sessiond._protocol.status import error_of_turn
from sessiond._protocol.times import from_timestamp
from sessiond._requests import watch as watch_requests
from sessiond._sync._connection import Connection
from sessiond._sync._wire import FAULTS, Ahead, Stop, Watchdog, is_cancelled, sleep
from sessiond._types.event import Event
from sessiond._types.message import Message
from sessiond._types.session import SessionCopy, SessionInfo
from sessiond._types.turn import ENDED, Turn
from sessiond.errors import DeadlineExceeded, ServerUnavailable, SessiondError
from sessiond.v1 import turn_pb2
from sessiond.v1.asset_service_pb2 import DownloadAssetRequest
from sessiond.v1.conversation_service_pb2 import (
    ListTurnsRequest,
    SendRequest,
    SendResponse,
    WatchRequest,
)
from sessiond.v1.session_service_pb2 import (
    GetMessagesRequest,
    GetSessionRequest,
    ListCopiesRequest,
    ListSessionsRequest,
)


def message_batches(
    connection: Connection, request: GetMessagesRequest, timeout: float | None
) -> Generator[Iterator[Message], None]:
    """The messages that a request asks for, without gap or repeat, over as many connections as it takes. Each batch can be iterated over
    once: a message is made when it is taken, because a thousand at once would have the garbage collector walk over them.

    Args:
        timeout: of the whole stream. Unit: seconds. None = none.
    Raises: SessiondError.
    """
    session_id = request.session_id
    ask = GetMessagesRequest()
    ask.CopyFrom(request)
    retry = StreamRetry(timeout)
    while True:
        stubs = connection.stubs
        call = stubs.sessions.GetMessages(
            ask, timeout=retry.deadline.remaining(), metadata=connection.metadata
        )
        stubs.watch(call)
        try:
            with closing(Ahead(call)) as responses:
                for response in responses:
                    retry.progress()
                    if response.resume_token:
                        # Takes the place of after_seq; the other fields have to stay as they are.
                        ask.resume_token = response.resume_token
                    if response.messages:
                        yield map(Message, repeat(session_id), response.messages)
            return
        except FAULTS as fault:
            error = connection.error_of(fault)
            delay = retry.delay_after(error)
            if delay is None:
                raise error from fault
        finally:
            call.cancel()
        sleep(delay)


def event_batches(
    connection: Connection,
    request: WatchRequest,
    timeout: float | None,
    *,
    types: frozenset[str] | None = None,
    stop: Stop | None = None,
    opened: Callable[[bool], None] | None = None,
    heartbeats: bool = False,
) -> Generator[list[Event], None]:
    """The events that a request asks for, as they come; messages without gap or repeat, over as many connections as it takes.

    Args:
        timeout: of the whole stream. Unit: seconds. None = none.
        types: those that are wanted. None = all.
        stop: ends it when it is set.
        opened: called with True when a connection has brought its first response, and with False when it has ended.
        heartbeats: yield a batch for each response, be it without events: of each connection the first, and then some a minute.
    Raises: SessiondError.
    """
    ask = WatchRequest()
    ask.CopyFrom(request)
    retry = StreamRetry(timeout)
    if ask.session_id and not ask.HasField("after_seq"):
        # Without it, what is stored while a connection is down before the first message came would be missed.
        ask.after_seq = last_seq_of(connection, ask.session_id, timeout)
    while stop is None or not stop.is_set:
        stubs = connection.stubs
        call = stubs.conversations.Watch(
            ask, timeout=retry.deadline.remaining(), metadata=connection.metadata
        )
        stubs.watch(call)
        watchdog = Watchdog(call, watch_requests.HEARTBEAT_S * watch_requests.MAX_SILENT_HEARTBEATS)
        error: SessiondError
        cause: BaseException | None = None
        try:
            if stop:
                stop.watch(call)
            watchdog.wake()
            for response in call:
                watchdog.rest()
                retry.progress()
                if opened:
                    opened(True)
                for event in response.events:
                    if event.seq:
                        ask.after_seq = event.seq
                events = [
                    Event(event)
                    for event in response.events
                    if types is None or event.type in types
                ]
                if events or heartbeats:
                    yield events
                watchdog.wake()
            error = ServerUnavailable(
                "the stream ended, which a server never does without an error"
            )
        except FAULTS as fault:
            if stop and stop.is_set and not is_cancelled():
                return
            if watchdog.has_bitten and not is_cancelled():
                error = ServerUnavailable("the stream was silent for too long")
            else:
                error = connection.error_of(fault)
            cause = fault
        finally:
            watchdog.end()
            call.cancel()
            if opened:
                opened(False)
        delay = retry.delay_after(error)
        if delay is None:
            raise error from cause
        sleep(delay)


def send_steps(
    connection: Connection, request: SendRequest, timeout: float | None
) -> Generator[SendResponse, None]:
    """The steps of the turn that a request sets going, over as many connections as it takes: all ask with the request's request_id, and so
    for the one turn. It ends when the turn has ended with an answer.

    Args:
        timeout: of the whole stream. Unit: seconds. None = none.
    Raises: SessiondError; DeadlineExceeded with the turn_id, as far as it is known.
    """
    ask = SendRequest()
    ask.CopyFrom(request)
    retry = TurnRetry(timeout)
    turn = turn_pb2.Turn()
    while True:
        stubs = connection.stubs
        call = stubs.conversations.Send(
            ask, timeout=retry.deadline.remaining(), metadata=connection.metadata
        )
        stubs.watch(call)
        watchdog = Watchdog(call, watch_requests.HEARTBEAT_S * watch_requests.MAX_SILENT_HEARTBEATS)
        error: SessiondError
        cause: BaseException | None = None
        try:
            watchdog.wake()
            for response in call:
                watchdog.rest()
                retry.progress()
                if response.HasField("turn"):
                    turn = response.turn
                for event in response.events:
                    ask.after_seq = max(ask.after_seq, event.seq)
                yield response
                watchdog.wake()
            if turn.state in ENDED:
                if turn.state == turn_pb2.TURN_STATE_COMPLETED:
                    return
                raise error_of_turn(turn)
            error = ServerUnavailable("the stream ended before the turn did")
        except FAULTS as fault:
            if watchdog.has_bitten and not is_cancelled():
                error = ServerUnavailable("the stream was silent for too long")
            else:
                error = connection.error_of(fault)
            cause = fault
        finally:
            watchdog.end()
            call.cancel()
        delay = retry.delay_after(error)
        if delay is None:
            raise (
                overdue(request.session_id, turn.turn_id, error) if retry.ran_out(error) else error
            ) from cause
        sleep(delay)


def overdue(session_id: str, turn_id: str, error: SessiondError) -> DeadlineExceeded:
    """What ends a wait for a turn when its time is over. turn_id: empty = it is not known whether there is one."""
    if not turn_id:
        return DeadlineExceeded(
            f"the server has not answered in time: {error.message}",
            metadata={"session_id": session_id},
        )
    metadata = {"session_id": session_id, "turn_id": turn_id}
    return DeadlineExceeded(
        f"turn {turn_id} has not ended in time: {error.message}", metadata=metadata
    )


def turn_batches(
    connection: Connection, request: ListTurnsRequest, timeout: float | None
) -> Generator[list[Turn], None]:
    """The turns that a request asks for, page by page.

    Args:
        timeout: of one page with all its attempts. Unit: seconds. None = the client's.
    Raises: SessiondError.
    """
    ask = ListTurnsRequest()
    ask.CopyFrom(request)
    while True:
        page = connection.call(connection.stubs.conversations.ListTurns, ask, timeout)
        if page.turns:
            yield [Turn(turn) for turn in page.turns]
        if not page.next_page_token:
            return
        ask.page_token = page.next_page_token


def last_seq_of(connection: Connection, session_id: str, timeout: float | None) -> int:
    """Where a session ends. Raises: SessionNotFound, and what all calls do."""
    session = connection.call(
        connection.stubs.sessions.GetSession, GetSessionRequest(session_id=session_id), timeout
    )
    return session.last_seq


def session_batches(
    connection: Connection, request: ListSessionsRequest, timeout: float | None
) -> Generator[list[SessionInfo], None]:
    """The sessions that a request asks for, page by page.

    Args:
        timeout: of one page with all its attempts. Unit: seconds. None = the client's.
    Raises: SessiondError.
    """
    ask = ListSessionsRequest()
    ask.CopyFrom(request)
    while True:
        page = connection.call(connection.stubs.sessions.ListSessions, ask, timeout)
        if page.sessions:
            yield [SessionInfo(session) for session in page.sessions]
        if not page.next_page_token:
            return
        ask.page_token = page.next_page_token


def copy_batches(
    connection: Connection, request: ListCopiesRequest, timeout: float | None
) -> Generator[list[SessionCopy], None]:
    """The copies that a request asks for, page by page.

    Args:
        timeout: of one page with all its attempts. Unit: seconds. None = the client's.
    Raises: SessiondError.
    """
    ask = ListCopiesRequest()
    ask.CopyFrom(request)
    while True:
        page = connection.call(connection.stubs.sessions.ListCopies, ask, timeout)
        if page.copies:
            yield [
                SessionCopy(copy.session_id, copy.seq, from_timestamp(copy.create_time))
                for copy in page.copies
            ]
        if not page.next_page_token:
            return
        ask.page_token = page.next_page_token


def asset_pieces(
    connection: Connection, request: DownloadAssetRequest, timeout: float | None
) -> Generator[list[bytes], None]:
    """The content that a request asks for, without gap or repeat, over as many connections as it takes.

    Args:
        timeout: of the whole stream. Unit: seconds. None = none.
    Raises: SessiondError.
    """
    ask = DownloadAssetRequest()
    ask.CopyFrom(request)
    left: int | None = None
    retry = StreamRetry(timeout)
    while True:
        stubs = connection.stubs
        call = stubs.assets.DownloadAsset(
            ask, timeout=retry.deadline.remaining(), metadata=connection.metadata
        )
        stubs.watch(call)
        try:
            for response in call:
                retry.progress()
                if left is None:
                    left = response.asset.size - ask.offset
                    if request.length:
                        left = min(left, request.length)
                if response.data:
                    left -= len(response.data)
                    ask.offset += len(response.data)
                    if request.length:
                        ask.length = left
                    yield [response.data]
            return
        except FAULTS as fault:
            error = connection.error_of(fault)
            # All of it came, and only the end of the stream did not; a length of 0 would ask for the rest of the file.
            if left == 0:
                return
            delay = retry.delay_after(error)
            if delay is None:
                raise error from fault
        finally:
            call.cancel()
        sleep(delay)
