# Generated from _async/_processing.py by scripts/generate-sync-client. Do not edit.
"""`client.processing`: queues of messages for background workers."""

import logging
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta

from sessiond._requests import processing as queue_requests
from sessiond._requests.fields import filled
from sessiond._sync._connection import Calls, Connection
from sessiond._sync._lazy import Lazy
from sessiond._sync._sessions import Sessions
from sessiond._sync._streams import page_batches
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

# While a handler runs, its lease is extended this often in its duration, so that one may fail.
EXTENSIONS = 3
MAX_RETRY_DELAY_S = 3600.0
MAX_ERROR_CHARACTERS = 1024
# Deadline of giving a lease back when the worker itself is being stopped.
GIVE_BACK_TIMEOUT_S = 2.0

log = logging.getLogger(__name__)


class Processing(Calls):
    """The calls about processing queues, with which background workers follow all sessions.

    Each kind of work is a queue. It is created at its first lease, and begins with all stored
    messages. A worker leases pending messages of a session, reads them and acknowledges them;
    `work` does that in a loop. The messages of a session are leased in order, and to one worker at
    a time. Each message is processed at least once: it comes again if a worker dies or its lease
    expires.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
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
        """Lease pending messages of sessions that no other worker has, the longest pending first.

        The call is not retried: if its response is lost, the messages come again when the lease
        has expired.

        Args:
            queue: the kind of work: 1 to 64 characters of a-z, 0-9, "-" and "_". A project has at
                most 16 queues.
            worker: the caller's name, for people to read, at most 256 characters.
            max_sessions: most leases to take, each of another session, 1 to 100.
            max_messages: most messages of a lease, 1 to 10,000.
            lease_duration: how long a lease lasts unless it is extended: a timedelta or seconds,
                from 1 second to 1 hour.
            wait: how long to wait for work: a timedelta or seconds, at most 30 seconds. Default:
                not at all.
            timeout: deadline of the call, in seconds. Default: the client's plus `wait`.

        Returns:
            The leases, none if there is no work.

        Raises:
            LimitExceeded: if the project has 16 queues, and this is none of them.
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
        """Extend a lease, counted from now.

        Args:
            lease: the lease.
            lease_duration: a timedelta or seconds, from 1 second to 1 hour.
            timeout: deadline over all attempts, in seconds.

        Returns:
            The lease with its new end.

        Raises:
            LeaseLost: if the lease has ended, or another worker has the messages.
        """
        request = filled(
            pb.ExtendLeaseRequest(), lease_id=lease.lease_id, lease_duration=lease_duration
        )
        return lease_of(
            self._connection.call(lambda stubs: stubs.processing.ExtendLease, request, timeout)
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
        """Report the outcome of a lease's messages, and end the lease.

        An expired lease is still accepted as long as no other worker has its messages.

        Args:
            lease: the lease.
            through_seq: the last processed seq; later messages are pending again. 0 = none.
                Default: all.
            failures: the messages among them to give up on: {seq: error}, or FailedMessages. All
                others count as processed. 1,024 characters of an error are kept.
            keep_lease: keep the messages after through_seq under the same lease.
            timeout: deadline over all attempts, in seconds.

        Raises:
            LeaseLost: if the lease has ended, or another worker has the messages; also if an
                earlier attempt of this call was accepted and its response lost.
        """
        request = queue_requests.acknowledge_messages(lease, through_seq, failures, keep_lease)
        self._connection.call(
            lambda stubs: stubs.processing.AcknowledgeMessages,
            request,
            timeout,
            # A repeated part with failures is refused: the messages have left the lease.
            is_repeatable=not (keep_lease and request.failures),
        )

    def release(self, lease: Lease, *, timeout: float | None = None) -> None:
        """Give a lease back. Its messages are pending again.

        Args:
            lease: the lease.
            timeout: deadline over all attempts, in seconds.

        Raises:
            LeaseLost: if the lease has ended, or another worker has the messages.
        """
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
        """Make processed messages of a session pending again. The call is not retried.

        Exactly one of failed, from_seq and seqs is required.

        Args:
            queue: the queue.
            session_id: the session.
            failed: the messages that workers gave up on.
            from_seq: all messages from this seq on, at least 1. Leases that have some of them are
                lost.
            seqs: these messages, each once, at most 10,000. Those that are pending or leased stay
                so.
            timeout: deadline of the call, in seconds.

        Returns:
            How many messages became pending.

        Raises:
            SessionNotFound: if there is no such session.
            QueueNotFound: if there is no such queue.
        """
        request = queue_requests.requeue_messages(
            queue, session_id, failed=failed, from_seq=from_seq, seqs=seqs
        )
        response = self._connection.call(
            lambda stubs: stubs.processing.RequeueMessages, request, timeout, is_repeatable=False
        )
        return response.message_count

    def counts(
        self, queue: str, session_id: str | None = None, *, timeout: float | None = None
    ) -> ProcessingCounts:
        """Return how many messages are pending, leased, processed and failed.

        Args:
            queue: the queue.
            session_id: count only this session. Default: all sessions of the project, which takes
                longer the more there are.
            timeout: deadline over all attempts, in seconds.

        Raises:
            SessionNotFound: if there is no such session.
            QueueNotFound: if there is no such queue.
        """
        request = pb.GetProcessingCountsRequest(queue=queue, session_id=session_id or "")
        return counts_of(
            self._connection.call(
                lambda stubs: stubs.processing.GetProcessingCounts, request, timeout
            )
        )

    def failed_messages(
        self, queue: str, session_id: str, *, page_size: int = 0, timeout: float | None = None
    ) -> Lazy[FailedMessage]:
        """List a session's messages that workers gave up on, by seq, fetched page by page.

        Args:
            queue: the queue.
            session_id: the session.
            page_size: messages a call, 1 to 500. 0 = 50.
            timeout: deadline of each call, in seconds.

        Returns:
            A lazy list, which calls nothing before it is iterated over. Iterating raises
            SessionNotFound if there is no such session, and QueueNotFound if there is no such
            queue.
        """
        request = pb.ListFailedMessagesRequest(
            queue=queue, session_id=session_id, page_size=page_size
        )
        return Lazy(
            lambda: page_batches(
                self._connection,
                lambda stubs: stubs.processing.ListFailedMessages,
                request,
                timeout,
                "failures",
                lambda failure: FailedMessage(failure.seq, failure.error),
            )
        )

    def queues(self, *, timeout: float | None = None) -> list[str]:
        """Return the names of the project's queues, sorted.

        Args:
            timeout: deadline over all attempts, in seconds.
        """
        response = self._connection.call(
            lambda stubs: stubs.processing.ListQueues, pb.ListQueuesRequest(), timeout
        )
        return list(response.queues)

    def delete_queue(
        self, queue: str, *, allow_missing: bool = False, timeout: float | None = None
    ) -> None:
        """Delete a queue and its progress in all sessions.

        Args:
            queue: the queue.
            allow_missing: do nothing if there is no such queue.
            timeout: deadline over all attempts, in seconds.

        Raises:
            QueueNotFound: if there is no such queue, unless allow_missing.
        """
        request = pb.DeleteQueueRequest(queue=queue, allow_missing=allow_missing)
        self._connection.call(
            lambda stubs: stubs.processing.DeleteQueue,
            request,
            timeout,
            # A repetition might not find the queue that the first attempt deleted.
            is_repeatable=allow_missing,
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
        """Process a queue in a loop: lease, read, call the handler, acknowledge.

        If the handler raises an Exception, it is logged (logger "sessiond"), and the messages come
        again after retry_delay. At the last attempt they are given up on with the error's text.
        If it raises another BaseException, or the loop is stopped, the lease is given back, and
        the error is raised. While the handler runs, its lease is extended. A handler may be called
        twice with the same messages, so make it idempotent.

        The loop ends when the client is stopped (ClientClosed), when its task is cancelled or
        interrupted, or when an error of the server outlasts the retries of a call.

        Args:
            queue: the kind of work: 1 to 64 characters of a-z, 0-9, "-" and "_".
            handler: called with the lease and the list of its messages. An awaitable result is
                awaited. In an async client, a handler that blocks the event loop also blocks the
                extension of its lease.
            worker: the caller's name, for people to read, at most 256 characters.
            max_messages: most messages of a call of the handler, all in memory together.
            lease_duration: how long after this worker's death another one gets its messages: a
                timedelta or seconds, from 1 second to 1 hour.
            max_attempts: how often messages are leased in a row, by any worker, before they are
                given up on; at least 1.
            retry_delay: seconds until failed messages come again, doubled at each further attempt,
                at most an hour. 0 = at once. Other sessions go on meanwhile.
            idle_wait: how long each call waits for work: a timedelta or seconds, at most 30
                seconds.
            stop_when_empty: end when there is nothing to lease, without waiting for messages that
                other workers have or that wait for their next attempt.

        Returns:
            How many messages were processed.
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
            # Repeated: a lease whose response was lost expires, and its messages come again.
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
        """Process a lease's messages; return how many."""

        def extend() -> None:
            # A failure shows when the lease is acknowledged.
            with suppress(SessiondError):
                self.extend(lease, duration_s, timeout=duration_s / EXTENSIONS)

        failure: Exception | None = None
        try:
            if lease.attempt > max_attempts:
                # No earlier worker got to an outcome: the messages may have killed them.
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
                    self.release(lease, timeout=GIVE_BACK_TIMEOUT_S)
                raise
            if failure is None:
                self.acknowledge(lease)
                return len(messages)
            self._give_up(lease, failure, max_attempts, retry_delay)
        except (LeaseLost, SessionNotFound):
            # Another worker has the messages, or the session is gone.
            log.info("lease lost in session %r of queue %r", lease.session_id, lease.queue)
        return 0

    def _give_up(
        self, lease: Lease, error: Exception, max_attempts: int, retry_delay: float
    ) -> None:
        """Have failed messages come again later, or give up on them at the last attempt."""
        if lease.attempt >= max_attempts:
            self._fail(lease, f"{type(error).__name__}: {error}")
            return
        delay = min(retry_delay * 2.0 ** (lease.attempt - 1), MAX_RETRY_DELAY_S)
        if delay > 0:
            # The messages come again when this lease expires.
            self.extend(lease, max(delay, 1.0))
        else:
            self.release(lease)

    def _fail(self, lease: Lease, text: str) -> None:
        # It is sent for each message. protobuf refuses lone surrogates, which file names may have.
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
        response = self._connection.call(
            lambda stubs: stubs.processing.LeaseMessages,
            request,
            timeout,
            is_repeatable=is_repeatable,
        )
        return [lease_of(lease) for lease in response.leases]
