# Generated from _async/_streams.py by scripts/generate-sync-client. Do not edit.
"""Streams that resume after a broken connection, and lists that are fetched page by page."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import repeat
from typing import TYPE_CHECKING, Any, TypeVar

from sessiond._protocol.answer_texts import AnswerTexts
from sessiond._protocol.retry import StreamRetry, TurnRetry
from sessiond._protocol.status import error_of_turn
from sessiond._requests import watch as watch_requests
from sessiond._requests.fields import filled
from sessiond._sync._connection import Connection
from sessiond._sync._wire import (
    FAULTS,
    Prefetch,
    Stop,
    Stubs,
    Watchdog,
    is_cancelled,
    sleep,
)
from sessiond._types.event import REWOUND, Event
from sessiond._types.message import Message
from sessiond._types.turn import ENDED
from sessiond.errors import DeadlineExceeded, ServerUnavailable, SessiondError
from sessiond.v1 import turn_pb2
from sessiond.v1.asset_service_pb2 import DownloadAssetRequest
from sessiond.v1.conversation_service_pb2 import SendRequest, SendResponse, WatchRequest
from sessiond.v1.session_service_pb2 import GetMessagesRequest, GetSessionRequest

if TYPE_CHECKING:
    from sessiond._sync._wire import StreamMethod, UnaryMethod

RECREATED = "session.recreated"

_Item = TypeVar("_Item")
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


def page_batches(
    connection: Connection,
    stub: Callable[[Stubs], UnaryMethod[Any, Any]],
    request: Any,
    timeout: float | None,
    field: str,
    convert: Callable[[Any], _Item],
) -> Generator[list[_Item], None]:
    """Yield the items of a list, page by page.

    Args:
        connection: makes the calls.
        stub: selects the method.
        request: the request of the first page; not modified.
        timeout: deadline of a page over all its attempts, in seconds. None = the client's.
        field: the field of the response that holds the items.
        convert: converts an item to its value.

    Yields:
        The items of a page.

    Raises:
        SessiondError: if a call failed.
    """
    next_request = type(request)()
    next_request.CopyFrom(request)
    while True:
        page = connection.call(stub, next_request, timeout)
        yield [convert(item) for item in getattr(page, field)]
        if not page.next_page_token:
            return
        next_request.page_token = page.next_page_token


def message_batches(
    connection: Connection, request: GetMessagesRequest, timeout: float | None
) -> Generator[Iterator[Message], None]:
    """Yield a session's messages, each once and in order, reconnecting as often as needed.

    Args:
        connection: makes the calls.
        request: which messages to read; not modified.
        timeout: deadline of the whole call, in seconds. None = no deadline.

    Yields:
        A batch, which can be iterated over only once. The iteration creates the messages one by
        one, because a thousand live objects would slow down the garbage collector.

    Raises:
        SessiondError: if the stream failed.
    """
    resumed = GetMessagesRequest()
    resumed.CopyFrom(request)
    responses = resumed_responses(
        connection,
        lambda stubs: stubs.messages,
        resumed,
        StreamRetry(timeout),
        prefetches=True,
    )
    with closing(responses):
        for response in responses:
            if response.resume_token:
                # The token replaces after_seq; the other fields must stay the same.
                resumed.resume_token = response.resume_token
            if response.messages:
                yield map(Message, repeat(request.session_id), response.messages)


def event_batches(
    connection: Connection,
    request: WatchRequest,
    timeout: float | None,
    *,
    types: frozenset[str] | None = None,
    stop: Stop | None = None,
    opened: Callable[[bool], None] | None = None,
    heartbeats: bool = False,
    texts: AnswerTexts | None = None,
) -> Generator[list[Event], None]:
    """Yield events as they arrive, reconnecting as often as needed.

    Each message is delivered once, in order, and so is each character of a running answer. Other
    events may be missed between two connections.

    Args:
        connection: makes the calls.
        request: which events to watch; not modified.
        timeout: deadline of the whole call, in seconds. None = no deadline.
        types: the types to yield. None = all.
        stop: ends the stream when it is set.
        opened: called with True at each response, and with False when a connection has ended.
        heartbeats: yield a batch for each response, even one without events: the first response of
            each connection, and then a few per minute.
        texts: the text of running answers that the caller has received. Default: none.

    Yields:
        The events of a response.

    Raises:
        SessiondError: if the stream failed.
    """
    resumed = WatchRequest()
    resumed.CopyFrom(request)
    if resumed.session_id and not resumed.HasField("after_seq"):
        # Otherwise a connection that breaks before the first message would lose messages.
        resumed.after_seq, resumed.after_epoch, resumed.incarnation = place_of(
            connection, resumed.session_id, timeout
        )
    responses = resumed_responses(
        connection,
        lambda stubs: stubs.conversations.Watch,
        resumed,
        StreamRetry(timeout),
        is_complete=lambda is_clean: False,
        max_silence_s=watch_requests.MAX_SILENCE_S,
        stop=stop,
        opened=opened,
    )
    texts = texts or AnswerTexts()
    with closing(responses):
        for response in responses:
            if response.HasField("epoch"):
                resumed.after_epoch = response.epoch
            if response.incarnation:
                resumed.incarnation = response.incarnation
            for event in response.events:
                if event.seq:
                    resumed.after_seq, resumed.after_epoch = event.seq, event.epoch
                elif event.type == REWOUND:
                    kept = int(event.data.fields["last_seq"].number_value)
                    resumed.after_seq = min(resumed.after_seq, kept)
                    resumed.after_epoch = event.epoch
                elif event.type == RECREATED:
                    resumed.after_seq = 0
            events = [
                Event(event)
                for event in texts.new_of(response.events)
                if types is None or event.type in types
            ]
            if events or heartbeats:
                yield events


def send_steps(
    connection: Connection, request: SendRequest, timeout: float | None
) -> Generator[SendResponse, None]:
    """Yield the steps of a turn until it has ended, reconnecting as often as needed.

    Each message comes once, and so does each character of the answer while it is written. All
    connections send the same request_id, and therefore join the same turn.

    Args:
        connection: makes the calls.
        request: what to send; not modified.
        timeout: deadline of the whole call, in seconds. None = no deadline.

    Yields:
        The server's responses.

    Raises:
        DeadlineExceeded: if the deadline passed; the error's metadata has the turn_id if it is
            known.
        TurnFailed: if the turn ended without an answer.
        SessiondError: if the stream failed.
    """
    resumed = SendRequest()
    resumed.CopyFrom(request)
    retry = TurnRetry(timeout)
    turn = turn_pb2.Turn()
    texts = AnswerTexts()
    responses = resumed_responses(
        connection,
        lambda stubs: stubs.conversations.Send,
        resumed,
        retry,
        is_complete=lambda is_clean: is_clean and turn.state in ENDED,
        max_silence_s=watch_requests.MAX_SILENCE_S,
    )
    try:
        with closing(responses):
            for response in responses:
                if response.HasField("turn"):
                    turn = response.turn
                for event in response.events:
                    resumed.after_seq = max(resumed.after_seq, event.seq)
                new = texts.new_of(response.events)
                if len(new) < len(response.events):
                    del response.events[:]
                    response.events.extend(new)
                yield response
    except SessiondError as error:
        if retry.ran_out(error):
            raise overdue(request.session_id, turn.turn_id, error) from error
        raise
    if turn.state != turn_pb2.TURN_STATE_COMPLETED:
        raise error_of_turn(turn)


def overdue(session_id: str, turn_id: str, error: SessiondError) -> DeadlineExceeded:
    """Return the error to raise when the deadline of a wait for a turn has passed.

    Args:
        session_id: the turn's session.
        turn_id: the turn. "" = unknown whether there is a turn.
        error: the last failure.
    """
    if not turn_id:
        return DeadlineExceeded(
            f"the server has not answered in time: {error.message}",
            metadata={"session_id": session_id},
        )
    metadata = {"session_id": session_id, "turn_id": turn_id}
    return DeadlineExceeded(
        f"turn {turn_id} has not ended in time: {error.message}", metadata=metadata
    )


def place_of(
    connection: Connection, session_id: str, timeout: float | None
) -> tuple[int, int, str]:
    """Return a session's last_seq, epoch and etag. The etag serves as the watch's incarnation.

    Raises:
        SessionNotFound: if there is no such session.
    """
    session = connection.call(
        lambda stubs: stubs.sessions.GetSession,
        filled(GetSessionRequest(), session_id=session_id),
        timeout,
    )
    return session.last_seq, session.epoch, session.etag


def asset_pieces(
    connection: Connection, request: DownloadAssetRequest, timeout: float | None
) -> Generator[list[bytes], None]:
    """Yield an asset's content without gaps or repeats, reconnecting as often as needed.

    Args:
        connection: makes the calls.
        request: the asset and the range to read; not modified.
        timeout: deadline of the whole call, in seconds. None = no deadline.

    Yields:
        A list with one piece.

    Raises:
        SessiondError: if the stream failed.
    """
    resumed = DownloadAssetRequest()
    resumed.CopyFrom(request)
    left: int | None = None
    responses = resumed_responses(
        connection,
        lambda stubs: stubs.assets.DownloadAsset,
        resumed,
        StreamRetry(timeout),
        # If all bytes have arrived, an error does not matter. The stream must not be resumed then:
        # its request would have the length 0, which means "to the end of the asset".
        is_complete=lambda is_clean: is_clean or left == 0,
    )
    with closing(responses):
        for response in responses:
            if left is None:
                left = response.asset.size - resumed.offset
                left = min(left, request.length or left)
            if response.data:
                left -= len(response.data)
                resumed.offset += len(response.data)
                resumed.length = left if request.length else 0
                yield [response.data]


def resumed_responses(
    connection: Connection,
    stub: Callable[[Stubs], StreamMethod[_Request, _Response]],
    request: _Request,
    retry: StreamRetry,
    *,
    is_complete: Callable[[bool], bool] = lambda is_clean: is_clean,
    prefetches: bool = False,
    max_silence_s: float | None = None,
    stop: Stop | None = None,
    opened: Callable[[bool], None] | None = None,
) -> Generator[_Response, None]:
    """Yield the responses of a stream, reconnecting as often as needed.

    Args:
        connection: makes the calls.
        stub: selects the method.
        request: the request. The consumer of the responses updates it, so that the next connection
            resumes where the last one broke off.
        retry: counts the failures, and holds the deadline.
        is_complete: whether everything has arrived; called with True when the server has ended the
            stream without an error, and with False when the stream has failed.
        prefetches: request each response while the previous one is in use, which pays off only for
            large responses.
        max_silence_s: how long a connection may be silent, in seconds. None = forever.
        stop: ends the stream when it is set.
        opened: called with True at each response, and with False when a connection has ended.

    Yields:
        The responses.

    Raises:
        SessiondError: if the stream failed.
    """
    while stop is None or not stop.is_set:
        stubs = connection.stubs.with_room()
        try:
            call = stub(stubs)(
                request, timeout=retry.deadline.remaining(), metadata=connection.metadata
            )
        except FAULTS as fault:
            raise connection.error_of(fault) from fault
        stubs.watch(call)
        prefetched = Prefetch(call) if prefetches else None
        watchdog = Watchdog(call, max_silence_s)
        error: SessiondError = ServerUnavailable("the stream ended before everything had arrived")
        cause: BaseException | None = None
        try:
            if stop:
                stop.watch(call)
            watchdog.start()
            for response in prefetched or call:
                watchdog.pause()
                retry.progress()
                if opened:
                    opened(True)
                yield response
                watchdog.start()
            if is_complete(True):
                return
        except FAULTS as fault:
            cause = fault
            if watchdog.expired and not is_cancelled():
                error = ServerUnavailable("the stream was silent for too long")
            elif stop and stop.is_set and not is_cancelled():
                return
            else:
                error = connection.error_of(fault)
            if is_complete(False):
                return
        finally:
            watchdog.close()
            # A pending read ends with the call. Cancelling the read itself would make gRPC keep the
            # response that the read was to return.
            call.cancel()
            stubs.forget(call)
            if opened:
                opened(False)
        delay = retry.delay_after(error)
        if delay is None:
            raise error from cause
        sleep(delay)
