"""Answers that come in batches: a stream that goes on where it broke off, and a listing that pages by itself."""

from collections.abc import AsyncGenerator

from sessiond import _requests
from sessiond._async._connection import AsyncConnection
from sessiond._async._wire import FAULTS, Stop, Watchdog, is_cancelled, sleep
from sessiond._event import Event
from sessiond._info import SessionCopy, SessionInfo
from sessiond._message import Message
from sessiond._retry import StreamRetry
from sessiond._times import from_timestamp
from sessiond.errors import ServerUnavailable, SessiondError
from sessiond.v1.asset_service_pb2 import DownloadAssetRequest
from sessiond.v1.conversation_service_pb2 import WatchRequest
from sessiond.v1.session_service_pb2 import GetMessagesRequest, GetSessionRequest, ListCopiesRequest, ListSessionsRequest


async def message_batches(
    connection: AsyncConnection, request: GetMessagesRequest, timeout: float | None
) -> AsyncGenerator[list[Message], None]:
    """The messages that a request asks for, without gap or repeat, over as many connections as it takes.

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
        call = stubs.sessions.GetMessages(ask, timeout=retry.deadline.remaining(), metadata=connection.metadata)
        stubs.watch(call)
        try:
            async for response in call:
                retry.progress()
                if response.resume_token:
                    # Takes the place of after_seq; the other fields have to stay as they are.
                    ask.resume_token = response.resume_token
                if response.messages:
                    yield [Message(session_id, message) for message in response.messages]
            return
        except FAULTS as fault:
            error = connection.error_of(fault)
            delay = retry.delay_after(error)
            if delay is None:
                raise error from fault
        finally:
            call.cancel()
        await sleep(delay)


async def event_batches(
    connection: AsyncConnection,
    request: WatchRequest,
    timeout: float | None,
    *,
    types: frozenset[str] | None = None,
    stop: Stop | None = None,
) -> AsyncGenerator[list[Event], None]:
    """The events that a request asks for, as they come; messages without gap or repeat, over as many connections as it takes.

    Args:
        timeout: of the whole stream. Unit: seconds. None = none.
        types: those that are wanted. None = all.
        stop: ends it when it is set.
    Raises: SessiondError.
    """
    ask = WatchRequest()
    ask.CopyFrom(request)
    retry = StreamRetry(timeout)
    if ask.session_id and not ask.HasField("after_seq"):
        # Without it, what is stored while a connection is down before the first message came would be missed.
        ask.after_seq = await last_seq_of(connection, ask.session_id, timeout)
    while stop is None or not stop.is_set:
        stubs = connection.stubs
        call = stubs.conversations.Watch(ask, timeout=retry.deadline.remaining(), metadata=connection.metadata)
        stubs.watch(call)
        watchdog = Watchdog(call, _requests.HEARTBEAT_S * _requests.MAX_SILENT_HEARTBEATS)
        error: SessiondError
        cause: BaseException | None = None
        try:
            if stop:
                stop.watch(call)
            watchdog.wake()
            async for response in call:
                watchdog.rest()
                retry.progress()
                for event in response.events:
                    if event.seq:
                        ask.after_seq = event.seq
                events = [Event(event) for event in response.events if types is None or event.type in types]
                if events:
                    yield events
                watchdog.wake()
            error = ServerUnavailable("the stream ended, which a server never does without an error")
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
        delay = retry.delay_after(error)
        if delay is None:
            raise error from cause
        await sleep(delay)


async def last_seq_of(connection: AsyncConnection, session_id: str, timeout: float | None) -> int:
    """Where a session ends. Raises: SessionNotFound, and what all calls do."""
    session = await connection.call(connection.stubs.sessions.GetSession, GetSessionRequest(session_id=session_id), timeout)
    return session.last_seq


async def session_batches(
    connection: AsyncConnection, request: ListSessionsRequest, timeout: float | None
) -> AsyncGenerator[list[SessionInfo], None]:
    """The sessions that a request asks for, page by page.

    Args:
        timeout: of one page with all its attempts. Unit: seconds. None = the client's.
    Raises: SessiondError.
    """
    ask = ListSessionsRequest()
    ask.CopyFrom(request)
    while True:
        page = await connection.call(connection.stubs.sessions.ListSessions, ask, timeout)
        if page.sessions:
            yield [SessionInfo(session) for session in page.sessions]
        if not page.next_page_token:
            return
        ask.page_token = page.next_page_token


async def copy_batches(
    connection: AsyncConnection, request: ListCopiesRequest, timeout: float | None
) -> AsyncGenerator[list[SessionCopy], None]:
    """The copies that a request asks for, page by page.

    Args:
        timeout: of one page with all its attempts. Unit: seconds. None = the client's.
    Raises: SessiondError.
    """
    ask = ListCopiesRequest()
    ask.CopyFrom(request)
    while True:
        page = await connection.call(connection.stubs.sessions.ListCopies, ask, timeout)
        if page.copies:
            yield [SessionCopy(copy.session_id, copy.seq, from_timestamp(copy.create_time)) for copy in page.copies]
        if not page.next_page_token:
            return
        ask.page_token = page.next_page_token


async def asset_pieces(
    connection: AsyncConnection, request: DownloadAssetRequest, timeout: float | None
) -> AsyncGenerator[list[bytes], None]:
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
        call = stubs.assets.DownloadAsset(ask, timeout=retry.deadline.remaining(), metadata=connection.metadata)
        stubs.watch(call)
        try:
            async for response in call:
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
        await sleep(delay)
