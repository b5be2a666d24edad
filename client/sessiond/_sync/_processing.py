# Generated from _async/_processing.py by scripts/generate-sync-client. Do not edit.
"""`client.processing`: queues of messages for background workers."""

import logging
from collections.abc import Generator, Iterable
from contextlib import suppress
from datetime import timedelta

from sessiond._requests import processing as queue_requests
from sessiond._sync._connection import Connection
from sessiond._sync._lazy import Lazy
from sessiond._sync._sessions import Sessions
from sessiond._sync._wire import finished, repeated
from sessiond._types.message import Message
from sessiond._types.processing import (
    FailedMessage,
    Failures,
    Handler,
    Lease,
    ProcessingCounts,
    counts_of,
    lease_of,
    seconds_of,
)
from sessiond.errors import LeaseLost, SessiondError, SessionNotFound
from sessiond.v1 import processing_service_pb2 as pb

# While a handler runs, its lease is extended so many times in its duration: one extension may get lost.
EXTENSIONS = 3
MAX_RETRY_DELAY_S = 3600.0
MAX_ERROR_CHARACTERS = 1024
# How long to try to give a lease back when the worker itself is being stopped.
GIVE_BACK_S = 2.0

log = logging.getLogger(__name__)


class Processing:
    """The calls of ProcessingService: background workers follow the project's sessions.

    Each kind of work is a queue, made at its first lease, which begins with every message that there is. A worker leases pending messages
    of a session, reads them and acknowledges them; `work` does that in a loop. Of each session, messages are leased in their order, and by
    one worker at a time. Each message is processed at least once: where a worker dies or its lease runs out, it comes again.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sessions = Sessions(connection)

    def lease(
        self,
        queue: str,
        *,
        worker: str = "",
        max_sessions: int = 1,
        max_messages: int = 100,
        lease_duration: timedelta | float = 60.0,
        wait: timedelta | float | None = None,
        timeout: float | None = None,
    ) -> list[Lease]:
        """Take pending messages of sessions that nobody else works on, of those that wait longest first.

        Not tried again by itself: where an answer is lost, its messages come again only when the lease has run out.

        Args:
            queue: the kind of work: 1 to 64 characters of a-z, 0-9, "-" and "_". A project has at most 16 queues.
            worker: the caller's name for itself, for people to read. At most 256 characters.
            max_sessions: how many leases to take at the most, each of another session. 1 to 100.
            max_messages: how many messages a lease may have. 1 to 10,000.
            lease_duration: how long a lease lasts unless it is extended: a timedelta or seconds, from 1 second to 1 hour.
            wait: how long to wait for work where there is none: a timedelta or seconds, at most 30 seconds. Default: not at all.
            timeout: deadline of the call. Unit: seconds. Default: the client's, and `wait` on top.
        Returns: the leases; none where there is no work.
        Raises: LimitExceeded (queues).
        """
        request = queue_requests.lease_messages(
            queue,
            worker=worker,
            max_sessions=max_sessions,
            max_messages=max_messages,
            lease_duration=lease_duration,
            wait=wait,
        )
        return self._lease(request, timeout, is_repeatable=False)

    def extend(
        self,
        lease: Lease,
        lease_duration: timedelta | float = 60.0,
        *,
        timeout: float | None = None,
    ) -> Lease:
        """Make a lease last from now on.

        Args:
            lease_duration: a timedelta or seconds, from 1 second to 1 hour.
        Returns: the lease with its new end.
        Raises: LeaseLost.
        """
        request = queue_requests.extend_lease(lease, lease_duration)
        return lease_of(
            self._connection.call(self._connection.stubs.processing.ExtendLease, request, timeout)
        )

    def acknowledge(
        self,
        lease: Lease,
        *,
        through_seq: int | None = None,
        failures: Failures = (),
        keep_lease: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Say what became of a lease's messages, and end it. A lease that ran out is still accepted where nobody took it over.

        Args:
            through_seq: the last seq that was dealt with; those after it are pending again. 0 = none. Default: all.
            failures: the messages among them to give up on: {seq: error}, or FailedMessages. All others are processed successfully. Of
                an error, 1,024 characters are kept.
            keep_lease: go on with what is left after through_seq under the same lease.
        Raises: LeaseLost; also where an earlier attempt of this call was accepted and its answer lost.
        """
        request = queue_requests.acknowledge_messages(lease, through_seq, failures, keep_lease)
        # Once more, a part with failures would be refused: its messages do not belong to the lease any more.
        is_repeatable = not (keep_lease and request.failures)
        stubs = self._connection.stubs
        self._connection.call(
            stubs.processing.AcknowledgeMessages, request, timeout, is_repeatable=is_repeatable
        )

    def release(self, lease: Lease, *, timeout: float | None = None) -> None:
        """Give a lease back with nothing done: its messages are pending again. Raises: LeaseLost."""
        self.acknowledge(lease, through_seq=0, timeout=timeout)

    def requeue(
        self,
        queue: str,
        session_id: str,
        *,
        failed: bool = False,
        from_seq: int | None = None,
        seqs: Iterable[int] | None = None,
        timeout: float | None = None,
    ) -> int:
        """Make processed messages of a session pending again. Give one of failed, from_seq and seqs. Not tried again by itself.

        Args:
            failed: those that workers gave up on.
            from_seq: all from this seq on, at least 1. A lease that has some of them is lost.
            seqs: these, each once, at most 10,000. Those that are pending or leased stay so.
        Returns: how many messages are pending now that were not before.
        Raises: SessionNotFound, QueueNotFound.
        """
        request = queue_requests.requeue_messages(
            queue, session_id, failed=failed, from_seq=from_seq, seqs=seqs
        )
        stubs = self._connection.stubs
        answer = self._connection.call(
            stubs.processing.RequeueMessages, request, timeout, is_repeatable=False
        )
        return answer.message_count

    def counts(
        self, queue: str, session_id: str | None = None, *, timeout: float | None = None
    ) -> ProcessingCounts:
        """How many messages are in which status.

        Args:
            session_id: of one session. Default: of all sessions of the project, which takes longer the more there are.
        Raises: SessionNotFound, QueueNotFound.
        """
        request = pb.GetProcessingCountsRequest(queue=queue, session_id=session_id or "")
        return counts_of(
            self._connection.call(
                self._connection.stubs.processing.GetProcessingCounts, request, timeout
            )
        )

    def failed_messages(
        self, queue: str, session_id: str, *, page_size: int = 0, timeout: float | None = None
    ) -> Lazy[FailedMessage]:
        """The messages of a session that workers gave up on, by seq, fetched page by page while they are iterated over.

        Args:
            page_size: how many a call brings at the most, 1 to 500. 0 = 50.
            timeout: of each call.
        Returns: a lazy listing; nothing is called before it is iterated over, and then it raises SessionNotFound and QueueNotFound.
        """
        return Lazy(lambda: self._failure_batches(queue, session_id, page_size, timeout))

    def queues(self, *, timeout: float | None = None) -> list[str]:
        """The project's queues, by name."""
        answer = self._connection.call(
            self._connection.stubs.processing.ListQueues, pb.ListQueuesRequest(), timeout
        )
        return list(answer.queues)

    def delete_queue(
        self, queue: str, *, allow_missing: bool = False, timeout: float | None = None
    ) -> None:
        """Forget a queue and all that is known of its progress.

        Args:
            allow_missing: do nothing where there is no such queue.
        Raises: QueueNotFound.
        """
        request = pb.DeleteQueueRequest(queue=queue, allow_missing=allow_missing)
        # Once more, it might not find what it deleted.
        stubs = self._connection.stubs
        self._connection.call(
            stubs.processing.DeleteQueue, request, timeout, is_repeatable=allow_missing
        )

    def work(
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
        """Process the queue's messages, one lease after the other: lease, read, `handler(lease, messages)`, acknowledge.

        Where the handler raises an Exception, it is logged (logger "sessiond"), and the messages come again, after retry_delay; at the
        last attempt they are given up on instead, with the error's text. Where it raises anything else, or the loop is stopped in the
        midst, the lease is given back and the error raised on. While the handler runs, its lease is extended again and again. A handler
        may be called twice with the same messages, so it should be able to see what it has done already.

        The loop ends when the client is stopped (ClientClosed), when its task is cancelled or interrupted, or when an error of the
        server persists over the retries of a call.

        Args:
            queue: as in lease.
            handler: called with the lease and the list of its messages. What it returns is awaited where it can be; in an async client, a
                handler that blocks the event loop also blocks the extension of its lease.
            worker: as in lease.
            max_messages: how many messages to hand over at once at the most. They are in memory together.
            lease_duration: how long after this worker's death another one gets its messages: a timedelta or seconds, from 1 second.
            max_attempts: how often messages are leased in a row, by whichever worker, before they are given up on. At least 1.
            retry_delay: seconds until messages whose handler failed come again, doubled with each further attempt; at most an hour. Other
                sessions go on meanwhile. 0 = at once.
            idle_wait: how long each call waits for work on the server: a timedelta or seconds, at most 30 seconds.
            stop_when_empty: end when there is nothing to lease. What other workers hold, or waits for another attempt, is not waited for.
        Returns: how many messages were processed.
        """
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
            # A lease whose answer was lost runs out, and comes again here or elsewhere: to try again is worth it.
            leases = self._lease(request, None, is_repeatable=True)
            if not leases and stop_when_empty:
                return processed
            for lease in leases:
                processed += self._process(
                    lease, handler, seconds_of(lease_duration), max_attempts, retry_delay
                )

    def _process(
        self,
        lease: Lease,
        handler: Handler,
        duration_s: float,
        max_attempts: int,
        retry_delay: float,
    ) -> int:
        """Have a lease's messages processed. Answers how many were."""

        def extend() -> None:
            # What goes wrong here shows when the lease is acknowledged.
            with suppress(SessiondError):
                self.extend(lease, duration_s, timeout=duration_s / EXTENSIONS)

        failure: Exception | None = None
        try:
            if lease.attempt > max_attempts:
                # Whoever had them before came to no end, not even to an error: they may be what kills workers.
                self._fail(lease, f"leased {lease.attempt - 1} times without an outcome")
                return 0
            try:
                with repeated(duration_s / EXTENSIONS, extend):
                    messages = self._messages(lease)
                    try:
                        finished(handler(lease, messages))
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
                    self.release(lease, timeout=GIVE_BACK_S)
                raise
            if failure is None:
                self.acknowledge(lease)
                return len(messages)
            self._give_up(lease, failure, max_attempts, retry_delay)
        except (LeaseLost, SessionNotFound):
            # Others have the messages, or nobody needs them any more.
            log.info("lease lost in session %r of queue %r", lease.session_id, lease.queue)
        return 0

    def _give_up(
        self, lease: Lease, error: Exception, max_attempts: int, retry_delay: float
    ) -> None:
        """After a failure: for now, or for good."""
        if lease.attempt >= max_attempts:
            self._fail(lease, f"{type(error).__name__}: {error}")
            return
        delay = min(retry_delay * 2.0 ** (lease.attempt - 1), MAX_RETRY_DELAY_S)
        if delay > 0:
            # The lease is left alone: when it runs out, the messages come again.
            self.extend(lease, max(delay, 1.0))
        else:
            self.release(lease)

    def _fail(self, lease: Lease, text: str) -> None:
        # Cut here too: it is sent for each message. Lone surrogates, which file names may bring, cannot be sent.
        text = text[:MAX_ERROR_CHARACTERS].encode(errors="replace").decode()
        self.acknowledge(lease, failures=dict.fromkeys(lease.seqs, text))

    def _messages(self, lease: Lease) -> list[Message]:
        messages: list[Message] = []
        for first, last in lease.ranges:
            messages += self._sessions.get_messages(
                lease.session_id, after_seq=first - 1, through_seq=last
            ).to_list()
        return messages

    def _lease(
        self, request: pb.LeaseMessagesRequest, timeout: float | None, *, is_repeatable: bool
    ) -> list[Lease]:
        usual = self._connection.settings.timeout
        if timeout is None and usual is not None:
            timeout = usual + request.wait.ToTimedelta().total_seconds()
        stubs = self._connection.stubs
        answer = self._connection.call(
            stubs.processing.LeaseMessages, request, timeout, is_repeatable=is_repeatable
        )
        return [lease_of(lease) for lease in answer.leases]

    def _failure_batches(
        self, queue: str, session_id: str, page_size: int, timeout: float | None
    ) -> Generator[list[FailedMessage], None]:
        request = pb.ListFailedMessagesRequest(
            queue=queue, session_id=session_id, page_size=page_size
        )
        while True:
            page = self._connection.call(
                self._connection.stubs.processing.ListFailedMessages, request, timeout
            )
            yield [FailedMessage(failure.seq, failure.error) for failure in page.failures]
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
