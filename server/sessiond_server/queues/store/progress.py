"""The progress in the queues: acknowledgements, requeueing, counts and failures."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from uuid import UUID

from sessiond_server.db.expiry import ALIVE
from sessiond_server.db.idempotency import (
    RequestRecord,
    complete_request,
    forget_request,
    record_request,
)
from sessiond_server.db.pool import Database
from sessiond_server.queues.store.rows import (
    AGAIN,
    FAILED,
    OF_ROW,
    Connection,
    LeaseRef,
    Ranges,
    bounds,
    lease_ranges,
    lock_row,
    row_key,
)

_HEAD = f"""
SELECT last_seq FROM sessions
WHERE key = %(key)s AND log = %(log)s AND project_id = %(project_id)s AND {ALIVE}"""

# A multirange finds a seq by binary search. A join with the ranges would compare every seq with
# every range where the planner has no statistics yet.
_DELETE_AGAIN = f"""
DELETE FROM processing_exceptions
WHERE {OF_ROW} AND status = {AGAIN} AND (
    SELECT range_agg(int8range(first, last, '[]'))
    FROM unnest(%(firsts)s::bigint[], %(lasts)s::bigint[]) AS r (first, last)
) @> seq"""
_INSERT_FAILED = f"""
INSERT INTO processing_exceptions (key, log, queue, seq, status, error)
SELECT %(key)s, %(log)s, %(queue)s, f.seq, {FAILED}, f.error
FROM unnest(%(seqs)s::bigint[], %(errors)s::text[]) AS f (seq, error)
ON CONFLICT (key, log, queue, seq) DO UPDATE SET
    status = excluded.status, error = excluded.error, updated_at = now()"""
# A through_seq of 0 means that nothing was processed. If the messages were pending again, their
# through_seq may be less than done_seq.
_KEEP_LEASE = f"""
UPDATE processing SET
    done_seq = GREATEST(done_seq, %(through_seq)s),
    attempt = CASE WHEN %(through_seq)s > 0 THEN 1 ELSE attempt END,
    lease_firsts = %(firsts)s::bigint[], lease_lasts = %(lasts)s::bigint[]
WHERE {OF_ROW}"""
_END_LEASE = f"""
UPDATE processing SET
    done_seq = GREATEST(done_seq, %(through_seq)s),
    attempt = CASE WHEN %(through_seq)s > 0 THEN 0 ELSE attempt END,
    lease_id = NULL, lease_until = NULL, worker = '', ready_at = clock_timestamp(),
    is_ready = %(last_seq)s > GREATEST(done_seq, %(through_seq)s)
        OR EXISTS (SELECT FROM processing_exceptions WHERE {OF_ROW} AND status = {AGAIN})
WHERE {OF_ROW}"""

_REQUEUE_FAILED = f"""
UPDATE processing_exceptions SET status = {AGAIN}, error = '', updated_at = now()
WHERE {OF_ROW} AND status = {FAILED} RETURNING seq"""
_REQUEUE_SEQS = f"""
INSERT INTO processing_exceptions AS e (key, log, queue, seq, status)
SELECT %(key)s, %(log)s, %(queue)s, seq, {AGAIN} FROM unnest(%(seqs)s::bigint[]) AS r (seq)
WHERE seq <= %(done_seq)s
ON CONFLICT (key, log, queue, seq) DO UPDATE SET status = {AGAIN}, error = '', updated_at = now()
WHERE e.status = {FAILED} RETURNING seq"""
_DELETE_FROM = (
    f"DELETE FROM processing_exceptions WHERE {OF_ROW} AND seq >= %(from_seq)s RETURNING status"
)
_REWIND = f"UPDATE processing SET done_seq = %(from_seq)s - 1, attempt = 0 WHERE {OF_ROW}"
_REVOKE = f"""
UPDATE processing SET lease_id = NULL, lease_until = NULL, worker = '', attempt = 0,
    is_ready = true, ready_at = clock_timestamp()
WHERE {OF_ROW}"""
_WAKE = f"""
UPDATE processing SET is_ready = true, ready_at = clock_timestamp() WHERE {OF_ROW} AND NOT is_ready
"""

# PostgreSQL plans this statement with its values, because they are part of its text. The condition
# on the key therefore costs nothing if the key is NULL, and uses the index otherwise.
_SESSIONS = f"""
s.project_id = %(project_id)s AND (%(key)s::uuid IS NULL OR s.key = %(key)s::uuid) AND {ALIVE}"""
_COUNTS = f"""
WITH progress AS (
    SELECT COALESCE(sum(s.last_seq), 0)::bigint AS messages,
        COALESCE(sum(p.done_seq), 0)::bigint AS done,
        COALESCE(sum((
            SELECT sum(l.last - l.first + 1)
            FROM unnest(p.lease_firsts, p.lease_lasts) AS l (first, last)
        )) FILTER (WHERE p.lease_until > statement_timestamp()), 0)::bigint AS leased
    FROM sessions s
    LEFT JOIN processing p ON p.key = s.key AND p.log = s.log AND p.queue = %(queue)s
    WHERE {_SESSIONS}
), exceptions AS (
    SELECT count(*) FILTER (WHERE e.status = {AGAIN}) AS again,
        count(*) FILTER (WHERE e.status = {FAILED}) AS failed
    FROM processing_exceptions e JOIN sessions s ON s.key = e.key AND s.log = e.log
    WHERE e.queue = %(queue)s AND {_SESSIONS}
)
SELECT messages - done + again - leased AS pending, leased AS running,
    done - again - failed AS success, failed
FROM progress, exceptions"""

_FAILURES = f"""
SELECT e.seq, e.error
FROM processing_exceptions e JOIN sessions s ON s.key = e.key AND s.log = e.log
WHERE e.key = %(key)s AND s.project_id = %(project_id)s AND {ALIVE}
    AND e.queue = %(queue)s AND e.status = {FAILED} AND e.seq > %(after)s
ORDER BY e.seq LIMIT %(limit)s"""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The changes that an acknowledgement makes.

    Attributes:
        done: ranges of processed messages.
        failures: errors of those messages in `done` that failed, by seq.
        rest: ranges of messages that stay leased; empty if the lease ends.
    """

    done: Ranges
    failures: Mapping[int, str]
    rest: Ranges


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of messages in a session or project, by status. They add up to all messages."""

    pending: int
    running: int
    success: int
    failed: int


class ProgressStore:
    """The progress of sessions in queues. Every method takes the caller's project."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def acknowledge(
        self,
        ref: LeaseRef,
        project_id: UUID,
        record: RequestRecord | None,
        decide: Callable[[Ranges, bool], Acknowledgement | None],
    ) -> bool:
        """Record that leased messages have been processed.

        Args:
            ref: the lease.
            project_id: the caller's project.
            record: makes the acknowledgement safe to repeat; None for none.
            decide: called with the ranges that are still leased, and with True if a rewind has
                removed messages of the lease. Returns the changes; None ends the lease. If it
                raises, nothing is changed.

        Returns:
            False if the lease has been lost or its session is gone, or if `decide` ended the lease.

        Raises:
            DuplicateRequest: if the request is a repetition; nothing is changed.
            Fault: REQUEST_ID_REUSED.
        """
        async with self._database.transaction() as connection:
            if record:
                await record_request(self._database, connection, record, ref.log)
            is_done = await self._acknowledge(connection, ref, project_id, decide)
            if record and not is_done:
                await forget_request(self._database, connection, record, ref.log)
            return is_done

    async def _acknowledge(
        self,
        connection: Connection,
        ref: LeaseRef,
        project_id: UUID,
        decide: Callable[[Ranges, bool], Acknowledgement | None],
    ) -> bool:
        key = row_key(ref.key, ref.log, project_id, ref.queue)
        row = await lock_row(self._database, connection, key)
        # This statement must follow the lock; see the docstring of the package.
        head = await self._database.rows(_HEAD, key, on=connection)
        if row is None or row["lease_id"] != ref.lease_id or not head:
            return False
        change = decide(lease_ranges(row), row["is_cut"])
        if change is None:
            await self._database.rows(_REVOKE, key, on=connection)
            return False
        if change.done and change.done[0][0] <= row["done_seq"]:
            await self._database.rows(_DELETE_AGAIN, key | bounds(change.done), on=connection)
        if change.failures:
            await self._database.rows(
                _INSERT_FAILED,
                {
                    **key,
                    "seqs": list(change.failures),
                    "errors": list(change.failures.values()),
                },
                on=connection,
            )
        await self._database.rows(
            _KEEP_LEASE if change.rest else _END_LEASE,
            {
                **key,
                **bounds(change.rest),
                "last_seq": head[0]["last_seq"],
                "through_seq": change.done[-1][1] if change.done else 0,
            },
            on=connection,
        )
        return True

    async def requeue(
        self,
        key: UUID,
        log: UUID,
        project_id: UUID,
        queue: str,
        seqs: Sequence[int] | None,
        record: RequestRecord | None,
    ) -> int:
        """Make processed messages of a session pending again.

        Args:
            key: the session's key.
            log: the session's log.
            project_id: the caller's project.
            queue: name of the queue.
            seqs: seqs of the messages; pending and leased ones are ignored. None = all failed
                messages.
            record: makes the change safe to repeat; None for none.

        Returns:
            The number of messages that became pending.

        Raises:
            DuplicateRequest: if the request is a repetition. Its result is the number that the
                first request returned.
            Fault: REQUEST_ID_REUSED.
        """
        parameters = row_key(key, log, project_id, queue)
        async with self._recorded(record, log) as (connection, told):
            row = await lock_row(self._database, connection, parameters)
            if row is None:
                return await told(0)  # never distributed, so every message is pending
            if seqs is None:
                changed = await self._database.rows(_REQUEUE_FAILED, parameters, on=connection)
            else:
                done = {"seqs": list(seqs), "done_seq": row["done_seq"]}
                changed = await self._database.rows(_REQUEUE_SEQS, parameters | done, on=connection)
            if changed:
                await self._database.rows(_WAKE, parameters, on=connection)
            return await told(len(changed))

    async def requeue_from(
        self,
        key: UUID,
        log: UUID,
        project_id: UUID,
        queue: str,
        from_seq: int,
        record: RequestRecord | None,
    ) -> int:
        """Make all messages of a session from a seq on pending again.

        A lease that contains any of these messages ends. For `record`, see `requeue`.

        Returns:
            The number of messages that became pending.
        """
        parameters = row_key(key, log, project_id, queue) | {"from_seq": from_seq}
        async with self._recorded(record, log) as (connection, told):
            row = await lock_row(self._database, connection, parameters)
            if row is None:
                return await told(0)
            count = 0
            if from_seq <= row["done_seq"]:
                removed = await self._database.rows(_DELETE_FROM, parameters, on=connection)
                await self._database.rows(_REWIND, parameters, on=connection)
                count = row["done_seq"] - from_seq + 1
                count -= sum(exception["status"] == AGAIN for exception in removed)
            if row["lease_id"] is not None and row["lease_lasts"][-1] >= from_seq:
                # All leased messages, regardless of their seqs, were running and are pending now.
                # Messages that were pending again before the lease have already been subtracted.
                if row["is_live"]:
                    count += sum(last - first + 1 for first, last in lease_ranges(row))
                await self._database.rows(_REVOKE, parameters, on=connection)
            elif count:
                await self._database.rows(_WAKE, parameters, on=connection)
            return await told(count)

    @asynccontextmanager
    async def _recorded(
        self, record: RequestRecord | None, log: UUID
    ) -> AsyncIterator[tuple[Connection, Callable[[int], Awaitable[int]]]]:
        """Open a transaction that records a request.

        Yields:
            The connection, and a function that records the result of the request and returns it.
        """
        async with self._database.transaction() as connection:
            if record:
                await record_request(self._database, connection, record, log)

            async def told(count: int) -> int:
                if record:
                    result = replace(record, result=str(count))
                    await complete_request(self._database, connection, result, log)
                return count

            yield connection, told

    async def counts(self, project_id: UUID, queue: str, key: UUID | None) -> Counts:
        """Return the counts of the session with this key; None for all sessions of the project."""
        [row] = await self._database.rows(
            _COUNTS, {"project_id": project_id, "queue": queue, "key": key}
        )
        return Counts(**row)

    async def failures(
        self, key: UUID, project_id: UUID, queue: str, after: int, limit: int
    ) -> list[tuple[int, str]]:
        """Return failed messages with seqs above `after` as (seq, error), ordered by seq."""
        rows = await self._database.rows(
            _FAILURES,
            {
                "key": key,
                "project_id": project_id,
                "queue": queue,
                "after": after,
                "limit": limit,
            },
        )
        return [(row["seq"], row["error"]) for row in rows]
