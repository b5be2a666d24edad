# Generated from _async/_leases.py by scripts/generate-sync-client. Do not edit.
"""`client.processing`: the calls about processing queues and their leases."""

from collections.abc import Iterable
from datetime import timedelta

from sessiond._requests import processing as queue_requests
from sessiond._requests.fields import filled
from sessiond._sync._connection import Calls
from sessiond._sync._lazy import Lazy
from sessiond._sync._streams import page_batches
from sessiond._types.processing import (
    FailedMessage,
    Failures,
    Lease,
    ProcessingCounts,
    counts_of,
    lease_of,
)
from sessiond.v1 import processing_service_pb2 as pb


class LeaseCalls(Calls):
    """The calls about processing queues and their leases."""

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
        """Lease pending messages of sessions that no worker has leased.

        The messages that have been pending longest are leased first. The call is not retried: if
        its response is lost, the messages are leased again when the lease has expired.

        Args:
            queue: name of the queue: 1 to 64 characters of a-z, 0-9, "-" and "_". A project has at
                most 16 queues.
            worker: the caller's name, for people to read, at most 256 characters.
            max_sessions: maximum number of leases, each for a different session, 1 to 100.
            max_messages: maximum number of messages in a lease, 1 to 10,000.
            lease_duration: how long a lease lasts unless it is extended: a timedelta or seconds,
                from 1 second to 1 hour.
            wait: how long to wait for work: a timedelta or seconds, at most 30 seconds. Default: do
                not wait.
            timeout: deadline of the call, in seconds. Default: the client's plus `wait`.

        Returns:
            The leases; empty if there is no work.

        Raises:
            LimitExceeded: if the queue is new, and the project has 16 queues already.
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
        """Extend a lease; its new duration is counted from now.

        Args:
            lease: the lease.
            lease_duration: a timedelta or seconds, from 1 second to 1 hour.
            timeout: deadline over all attempts, in seconds.

        Returns:
            The lease with its new time of expiry.

        Raises:
            LeaseLost: if the lease has ended, or another worker has the messages.
        """
        request = filled(
            pb.ExtendLeaseRequest(),
            lease_id=queue_requests.lease_id_of(lease),
            lease_duration=lease_duration,
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
            through_seq: the last processed seq; later messages become pending again. 0 = no message
                was processed. Default: all messages were.
            failures: those messages up to through_seq that the worker gives up on: {seq: error}, or
                FailedMessages. All others count as processed. Errors are cut to 1,024 characters.
            keep_lease: keep the lease for the messages after through_seq.
            timeout: deadline over all attempts, in seconds.

        Raises:
            LeaseLost: if the lease has ended, or another worker has the messages.
        """
        request = queue_requests.acknowledge_messages(lease, through_seq, failures, keep_lease)
        self._connection.call(lambda stubs: stubs.processing.AcknowledgeMessages, request, timeout)

    def release(self, lease: Lease, *, timeout: float | None = None) -> None:
        """Give a lease back. Its messages become pending again.

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
            failed: requeue the messages that workers gave up on.
            from_seq: requeue all messages from this seq on, at least 1. Leases with any of them are
                lost.
            seqs: requeue the messages with these seqs: 1 to 10,000 different ones. Pending and
                leased messages are not affected.
            timeout: deadline of the call, in seconds.

        Returns:
            The number of messages that became pending.

        Raises:
            SessionNotFound: if there is no such session.
            QueueNotFound: if there is no such queue.
        """
        request = queue_requests.requeue_messages(
            queue, session_id, failed=failed, from_seq=from_seq, seqs=seqs
        )
        response = self._connection.call(
            lambda stubs: stubs.processing.RequeueMessages, request, timeout
        )
        return response.message_count

    def counts(
        self, queue: str, session_id: str | None = None, *, timeout: float | None = None
    ) -> ProcessingCounts:
        """Return how many messages are pending, leased, processed and failed.

        Args:
            queue: the queue.
            session_id: count only this session. Default: all sessions of the project, which takes
                longer the more sessions there are.
            timeout: deadline over all attempts, in seconds.

        Raises:
            SessionNotFound: if there is no such session.
            QueueNotFound: if there is no such queue.
        """
        request = filled(pb.GetProcessingCountsRequest(), queue=queue, session_id=session_id)
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
            page_size: messages per call, 1 to 500. 0 = 50.
            timeout: deadline of each call, in seconds.

        Returns:
            A lazy list; no call is made until it is iterated over. Iterating raises
            SessionNotFound if there is no such session, and QueueNotFound if there is no such
            queue.
        """
        request = filled(
            pb.ListFailedMessagesRequest(),
            queue=queue,
            session_id=session_id,
            page_size=page_size,
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
            QueueNotFound: if there is no such queue, unless allow_missing is set.
        """
        request = filled(pb.DeleteQueueRequest(), queue=queue, allow_missing=allow_missing)
        self._connection.call(
            lambda stubs: stubs.processing.DeleteQueue,
            request,
            timeout,
            # A retry might not find the queue that the first attempt deleted.
            is_repeatable=allow_missing,
        )

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
