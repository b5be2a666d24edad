"""Sessions as they were at one moment, for exports."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from itertools import repeat

from sessiond._async._connection import AsyncConnection
from sessiond._async._streams import message_batches, resumed_responses
from sessiond._protocol.retry import StreamRetry
from sessiond._requests.fields import filled
from sessiond._types.message import Message
from sessiond.v1.session_service_pb2 import (
    ExportSessionRequest,
    ExportSessionResponse,
    GetMessagesRequest,
)


async def snapshot_and_messages(
    connection: AsyncConnection, session_id: str, timeout: float | None
) -> AsyncGenerator[tuple[ExportSessionResponse | None, Iterator[Message]], None]:
    """Yield a whole session as it was at one moment, reconnecting as often as needed.

    Args:
        connection: makes the calls.
        session_id: the session.
        timeout: deadline of the snapshot, in seconds. None = the client's. Reading the messages has
            no deadline.

    Yields:
        First the snapshot, without messages. Then None and a batch of messages, as in
        message_batches.

    Raises:
        SessionNotFound: if there is no such session, or if it is deleted meanwhile.
        HistoryRewound: if the session was rewound, and messages of the snapshot are missing.
        SessiondError: if the stream failed.
    """
    snapshot: ExportSessionResponse | None = None
    seq = 0
    responses = resumed_responses(
        connection,
        lambda stubs: stubs.sessions.ExportSession,
        filled(ExportSessionRequest(), session_id=session_id),
        StreamRetry(connection.settings.timeout if timeout is None else timeout),
        # The stream cannot be resumed. But messages never change. So if the stream breaks or meets
        # its deadline after the snapshot, the missing messages can still be read.
        is_complete=lambda is_clean: snapshot is not None,
        prefetches=True,
    )
    async with aclosing(responses):
        async for response in responses:
            if snapshot is None:
                snapshot = response
                yield snapshot, iter(())
            elif response.messages:
                seq = response.messages[-1].seq
                yield None, map(Message, repeat(session_id), response.messages)
    if snapshot is None or seq == snapshot.session.last_seq:
        return
    request = GetMessagesRequest(
        session_id=session_id,
        after_seq=seq,
        through_seq=snapshot.session.last_seq,
        expected_epoch=snapshot.session.epoch,
        # The incarnation excludes another session that has got the same id since the snapshot.
        incarnation=snapshot.session.etag,
    )
    async with aclosing(message_batches(connection, request, None)) as batches:
        async for batch in batches:
            yield None, batch
