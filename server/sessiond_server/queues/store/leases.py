"""Leases of messages: each gives a worker some messages of a session in a queue for a while."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from sessiond_server.db.expiry import ALIVE
from sessiond_server.db.pool import Database
from sessiond_server.queues.store.queues import WITH_NEWS, QueueStore
from sessiond_server.queues.store.rows import (
    AGAIN,
    GIVEN,
    Leased,
    LeaseRef,
    Ranges,
    bounds,
    delete_rows,
    keys_of,
    lease_ranges,
    row_key,
)

_FREE = """project_id = %(project_id)s AND queue = %(queue)s
    AND is_ready AND (lease_until IS NULL OR lease_until <= statement_timestamp())"""

CHECK = f"""
SELECT
    EXISTS (
        SELECT FROM queues WHERE project_id = %(project_id)s AND queue = %(queue)s
    ) AS is_known,
    (SELECT true FROM sessions WHERE {WITH_NEWS} LIMIT 1) AS has_news,
    (SELECT true FROM processing WHERE {_FREE} ORDER BY ready_at LIMIT 1) AS has_work"""

_PICK = f"""
SELECT key, log, done_seq FROM processing WHERE {_FREE}
ORDER BY ready_at LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED"""

# Returns one row for each picked row, in the same order. The log is compared as well, since an
# earlier session with the same id may have left a row behind.
_SESSIONS = f"""
SELECT s.session_id, s.last_seq, ARRAY(
    SELECT e.seq FROM processing_exceptions e
    WHERE e.key = given.key AND e.log = given.log AND e.queue = %(queue)s AND e.status = {AGAIN}
    ORDER BY e.seq LIMIT %(max_messages)s
) AS again
FROM {GIVEN} WITH ORDINALITY AS given (key, log, place)
LEFT JOIN sessions s ON s.key = given.key AND s.log = given.log
    AND s.project_id = %(project_id)s AND {ALIVE}
ORDER BY place"""

_LEASED = """p.key, p.log, p.queue, p.lease_id, p.lease_firsts, p.lease_lasts, p.lease_until,
    p.attempt"""

# Rows are picked in the order of ready_at. While a row is leased, ready_at is therefore the time
# when the lease expires. So other workers find free rows first, and a session whose workers die
# does not come first each time. The first seq of a lease stays in the row after the lease ends, to
# count the attempts.
_LEASE = f"""
WITH leased AS (
    UPDATE processing p SET
        lease_id = gen_random_uuid(), lease_until = statement_timestamp() + %(duration)s,
        lease_firsts = l.firsts, lease_lasts = l.lasts,
        ready_at = statement_timestamp() + %(duration)s, worker = %(worker)s,
        attempt = CASE WHEN p.lease_firsts[1] = l.firsts[1] THEN p.attempt ELSE 0 END + 1
    FROM jsonb_to_recordset(%(leases)s) AS l
        (key uuid, log uuid, session_id text, firsts bigint[], lasts bigint[], place int)
    WHERE p.key = l.key AND p.log = l.log
        AND p.queue = %(queue)s AND p.project_id = %(project_id)s
    RETURNING l.place, l.session_id, {_LEASED}
)
SELECT * FROM leased ORDER BY place"""

_REST = f"""
UPDATE processing p SET is_ready = false, lease_id = NULL, lease_until = NULL
FROM {GIVEN} AS given (key, log)
WHERE p.key = given.key AND p.log = given.log
    AND p.queue = %(queue)s AND p.project_id = %(project_id)s"""

_EXTEND = f"""
UPDATE processing p SET lease_until = statement_timestamp() + %(duration)s
FROM sessions s
WHERE p.key = %(key)s AND p.log = %(log)s AND p.queue = %(queue)s
    AND p.project_id = %(project_id)s AND p.lease_id = %(lease_id)s
    AND s.key = p.key AND s.log = p.log AND s.project_id = p.project_id AND {ALIVE}
RETURNING s.session_id, {_LEASED}"""


class LeaseStore:
    """Leases of messages. Each lease covers messages of one session in one queue."""

    def __init__(self, database: Database, queues: QueueStore) -> None:
        self._database = database
        self._queues = queues

    async def lease(
        self,
        project_id: UUID,
        queue: str,
        *,
        worker: str,
        max_sessions: int,
        max_messages: int,
        duration_ms: int,
        max_queues: int,
    ) -> list[Leased]:
        """Lease messages, from the longest-waiting sessions first.

        If the queue is unknown, it is registered.

        Args:
            project_id: the caller's project.
            queue: name of the queue.
            worker: name of the worker, stored for operators.
            max_sessions: maximum number of leases.
            max_messages: maximum number of messages in each lease.
            duration_ms: duration of the leases. Unit: milliseconds.
            max_queues: maximum number of queues in the project.

        Raises:
            TooManyQueues: if the queue is unknown and the project already has max_queues.
        """
        parameters = {
            "project_id": project_id,
            "queue": queue,
            "worker": worker,
            "max_messages": max_messages,
            "duration": timedelta(milliseconds=duration_ms),
        }
        [state] = await self._database.rows(CHECK, parameters)
        if not state["is_known"]:
            await self._queues.register(project_id, queue, max_queues)
        if state["has_news"]:
            await self._queues.distribute(project_id)
        elif state["is_known"] and not state["has_work"]:
            return []
        leases: list[Leased] = []
        while len(leases) < max_sessions:
            async with self._database.transaction() as connection:
                picked = await self._database.rows(
                    _PICK, parameters | {"limit": max_sessions - len(leases)}, on=connection
                )
                if not picked:
                    break
                # The rows are locked, so a new statement sees every append that made them ready.
                sessions = await self._database.rows(
                    _SESSIONS, parameters | keys_of(picked), on=connection
                )
                chosen: list[dict[str, object]] = []
                empty: list[DictRow] = []
                gone: list[DictRow] = []
                for row, session in zip(picked, sessions, strict=True):
                    if session["session_id"] is None:
                        gone.append(row)
                    elif ranges := ranges_to_lease(
                        row["done_seq"], session["last_seq"], session["again"], max_messages
                    ):
                        chosen.append(
                            {
                                "key": str(row["key"]),
                                "log": str(row["log"]),
                                "session_id": session["session_id"],
                                "place": len(chosen),
                                **bounds(ranges),
                            }
                        )
                    else:
                        empty.append(row)
                if empty:
                    await self._database.rows(_REST, parameters | keys_of(empty), on=connection)
                if gone:
                    # These sessions were deleted or have expired. Other workers would pick their
                    # rows first until the purger removes them.
                    await delete_rows(self._database, connection, parameters | keys_of(gone))
                if chosen:
                    leased = await self._database.rows(
                        _LEASE, parameters | {"leases": Jsonb(chosen)}, on=connection
                    )
                    leases += map(_leased, leased)
        return leases

    async def extend(self, ref: LeaseRef, project_id: UUID, duration_ms: int) -> Leased | None:
        """Extend a lease to duration_ms from now.

        Returns:
            The lease; None if the lease has been lost or its session is gone.
        """
        parameters = row_key(ref.key, ref.log, project_id, ref.queue) | {
            "lease_id": ref.lease_id,
            "duration": timedelta(milliseconds=duration_ms),
        }
        rows = await self._database.rows(_EXTEND, parameters)
        return _leased(rows[0]) if rows else None


def ranges_to_lease(
    done_seq: int, last_seq: int, again: Sequence[int], max_messages: int
) -> Ranges:
    """Return the messages to lease in a session.

    Messages that are pending again are leased first, alone. If there are none, the messages after
    done_seq are leased.

    Args:
        done_seq: seq up to which messages are processed, except those in `again`.
        last_seq: seq of the session's last message.
        again: seqs of at most max_messages messages that are pending again, ascending.
        max_messages: maximum number of messages to lease.
    """
    if not again:
        first, last = done_seq + 1, min(last_seq, done_seq + max_messages)
        return [(first, last)] if first <= last else []
    ranges: Ranges = []
    for seq in again:
        if ranges and ranges[-1][1] == seq - 1:
            ranges[-1] = (ranges[-1][0], seq)
        else:
            ranges.append((seq, seq))
    return ranges


def _leased(row: DictRow) -> Leased:
    return Leased(
        LeaseRef(row["key"], row["log"], row["queue"], row["lease_id"]),
        row["session_id"],
        lease_ranges(row),
        row["lease_until"],
        row["attempt"],
    )
