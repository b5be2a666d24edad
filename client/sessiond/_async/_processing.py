"""`client.processing`: queues of messages for background workers."""

import logging
from contextlib import suppress
from datetime import timedelta

from sessiond._async._connection import AsyncConnection
from sessiond._async._leases import AsyncLeaseCalls
from sessiond._async._sessions import AsyncSessions
from sessiond._async._wire import finished, repeated
from sessiond._protocol.checks import check_function, check_number
from sessiond._requests import processing as queue_requests
from sessiond._types.message import Message
from sessiond._types.processing import Handler, Lease, seconds_of
from sessiond.errors import LeaseLost, SessiondError, SessionNotFound

# While a handler runs, its lease is extended this many times per lease duration, so that one
# extension may fail.
EXTENSIONS = 3
MAX_RETRY_DELAY_S = 3600.0
MAX_ERROR_CHARACTERS = 1024
# Deadline for giving a lease back when the worker itself is being stopped.
GIVE_BACK_TIMEOUT_S = 2.0

log = logging.getLogger(__name__)


class AsyncProcessing(AsyncLeaseCalls):
    """The calls about processing queues, which let background workers process all messages.

    Each kind of work has a queue. A queue is created by its first lease, and begins with all stored
    messages. A worker leases pending messages of a session, reads them and acknowledges them;
    `work` does that in a loop. The messages of a session are leased in order, and to one worker at
    a time. Each message is processed at least once: it is leased again if its worker dies or its
    lease expires.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        super().__init__(connection)
        self._sessions = AsyncSessions(connection)

    async def work(
        self,
        queue: str,
        handler: Handler,
        *,
        worker: str = "",
        max_messages: int = 100,
        lease_duration: timedelta | float = 60.0,
        max_attempts: int = 5,
        retry_delay: float = 1.0,
        idle_wait: timedelta | float = 10.0,
        stop_when_empty: bool = False,
    ) -> int:
        """Process a queue in a loop: lease, read, call the handler, acknowledge.

        If the handler raises an Exception, the error is logged (logger "sessiond"), and the
        messages are leased again after retry_delay. After the last attempt they are marked as
        failed, with the error's text. If the handler raises another BaseException, or the loop is
        stopped, the lease is given back and the error is raised. While the handler runs, its lease
        is extended. A handler may be called twice with the same messages, so make it idempotent.

        The loop ends when the client is stopped (ClientClosed), when its task is cancelled or
        interrupted, or when a server error persists beyond the retries of a call.

        Args:
            queue: name of the queue: 1 to 64 characters of a-z, 0-9, "-" and "_".
            handler: called with the lease and the list of its messages. An awaitable result is
                awaited. In an async client, a handler that blocks the event loop also blocks the
                extension of its lease.
            worker: the caller's name, for people to read, at most 256 characters.
            max_messages: maximum number of messages in one call of the handler. All of them are
                held in memory.
            lease_duration: how soon another worker gets the messages if this one dies: a timedelta
                or seconds, from 1 second to 1 hour.
            max_attempts: how many times in a row messages are leased, by any worker, before they
                are marked as failed; at least 1.
            retry_delay: seconds until failed messages are leased again, doubled at each further
                attempt, at most an hour. 0 = at once. Other sessions are processed meanwhile.
            idle_wait: how long each call waits for work: a timedelta or seconds, at most 30
                seconds.
            stop_when_empty: end when there is nothing to lease. Messages that other workers have
                leased, or that wait for their next attempt, are not waited for.

        Returns:
            Number of processed messages.
        """
        check_function(handler, "handler")
        check_number(max_attempts, "max_attempts", least=1)
        check_number(retry_delay, "retry_delay", least=0)
        request = queue_requests.lease_messages(
            queue,
            worker=worker,
            max_sessions=1,
            max_messages=max_messages,
            lease_duration=lease_duration,
            wait=None if stop_when_empty else idle_wait,
        )
        processed = 0
        while True:
            # Safe to repeat. If a response is lost, its lease expires, and the messages are leased
            # again.
            leases = await self._lease(request, None, is_repeatable=True)
            if not leases and stop_when_empty:
                return processed
            for lease in leases:
                processed += await self._process(
                    lease, handler, seconds_of(lease_duration), max_attempts, retry_delay
                )

    async def _process(
        self,
        lease: Lease,
        handler: Handler,
        duration_s: float,
        max_attempts: int,
        retry_delay: float,
    ) -> int:
        """Process a lease's messages; return their number."""

        async def extend() -> None:
            # If extending fails, the acknowledgement reports it.
            with suppress(SessiondError):
                await self.extend(lease, duration_s, timeout=duration_s / EXTENSIONS)

        failure: Exception | None = None
        try:
            if lease.attempt > max_attempts:
                # No earlier worker reported an outcome: the messages may have crashed the workers.
                await self._fail(lease, f"leased {lease.attempt - 1} times without an outcome")
                return 0
            try:
                async with repeated(duration_s / EXTENSIONS, extend):
                    messages = await self._messages(lease)
                    try:
                        await finished(handler(lease, messages))
                    except Exception as error:
                        log.warning(
                            "the handler of queue %r failed in session %r",
                            lease.queue,
                            lease.session_id,
                            exc_info=True,
                        )
                        failure = error
            except SessiondError:
                raise
            except BaseException:
                with suppress(SessiondError):
                    await self.release(lease, timeout=GIVE_BACK_TIMEOUT_S)
                raise
            if failure is None:
                await self.acknowledge(lease)
                return len(messages)
            await self._give_up(lease, failure, max_attempts, retry_delay)
        except (LeaseLost, SessionNotFound):
            # Another worker has the messages, or the session is gone.
            log.info("lease lost in session %r of queue %r", lease.session_id, lease.queue)
        return 0

    async def _give_up(
        self, lease: Lease, error: Exception, max_attempts: int, retry_delay: float
    ) -> None:
        """Let the messages be leased again later; after the last attempt, mark them as failed."""
        if lease.attempt >= max_attempts:
            await self._fail(lease, f"{type(error).__name__}: {error}")
            return
        delay = min(retry_delay * 2.0 ** (lease.attempt - 1), MAX_RETRY_DELAY_S)
        if delay > 0:
            # The messages are leased again when this lease expires.
            await self.extend(lease, max(delay, 1.0))
        else:
            await self.release(lease)

    async def _fail(self, lease: Lease, text: str) -> None:
        # The text is cut, because it is sent once for each message. protobuf refuses lone
        # surrogates, which a text with file names may have.
        text = text[:MAX_ERROR_CHARACTERS].encode(errors="replace").decode()
        await self.acknowledge(lease, failures=dict.fromkeys(lease.seqs, text))

    async def _messages(self, lease: Lease) -> list[Message]:
        messages: list[Message] = []
        for first, last in lease.ranges:
            messages += await self._sessions.get_messages(
                lease.session_id, after_seq=first - 1, through_seq=last
            ).to_list()
        return messages
