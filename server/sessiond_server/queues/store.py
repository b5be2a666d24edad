"""The processing queues: who works on what, and how far each queue is.

A row of `processing` stands for a session and a queue: up to `done_seq` all messages are dealt with, but for the exceptions, which have a
row each in `processing_exceptions` (1 pending again, 4 failed). Nothing is stored for a message otherwise.

How no message is missed:

- An append sets `has_news` on the session's row, which it has locked anyway. A distributor takes such sessions, clears the mark and makes
  the rows of all queues of the project ready, in one statement: so a session has the mark, or its rows know of its messages.
- Whoever decides that a row is not ready any more (a lease that finds nothing, an acknowledgement) has locked the row, and reads `last_seq`
  in a later statement, with a new snapshot. A distributor that made the row ready did so before that lock, and then the append that it
  tells of is in the snapshot; or it waits for the lock, and then its `is_ready` is what stays.
- Distributing, and registering or deleting a queue, hold the project's advisory lock, from before they read anything to their commit. So a
  distributor knows a new queue; or the marks that it cleared are committed, and the registration, which makes a row for every session
  without the mark, sees them. The lock is taken in a statement of its own, because a snapshot is as old as its statement. It also lets
  a lease that comes second wait for the rows that the first one is about to make ready, and not answer that there are none.

Locks are taken in one direction, so nothing waits in a circle: the project's advisory lock; then sessions, with SKIP LOCKED (an append or a
delete under way is not waited for, its session keeps the mark); then rows of `processing`. Who has locked one of these waits for no other
lock.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.rows import DictRow, TupleRow
from psycopg.types.json import Jsonb
from sqlalchemy import text

from sessiond_server.core.states import QueueMessageState
from sessiond_server.db.expiry import ALIVE
from sessiond_server.db.pool import Database

Connection = AsyncConnection[TupleRow]
Ranges = list[tuple[int, int]]
"""Seqs as (first, last), ascending."""

AGAIN, FAILED = QueueMessageState.AGAIN, QueueMessageState.FAILED

# A distribution holds the rows of this many sessions, so that their appends wait for it.
SESSIONS_A_DISTRIBUTION = 200
# So many a lease: more than it can take, so that news of later sessions do not wait for ever behind those of busy ones.
DISTRIBUTIONS_A_LEASE = 10
SESSIONS_A_DELETION = 1000

_LOCK = text(
    "SELECT pg_advisory_xact_lock(hashtextextended('queues of ' || (:project_id)::text, 0))"
)

_FREE = "is_ready AND (lease_until IS NULL OR lease_until <= statement_timestamp())"
_OF_ROW = "key = :key AND log = :log AND queue = :queue"

# Sessions with the mark. How many there are changes faster than the planner's statistics, and differs between projects: by those it may
# think it cheap to pass by all sessions until some turn up. The order, which only the index on the mark has at hand, leaves no such choice.
_WITH_NEWS = (
    f"has_news AND project_id BETWEEN :project_id AND :project_id AND {ALIVE} ORDER BY project_id"
)

_LOOK = text(f"""
SELECT
    EXISTS (SELECT FROM queues WHERE project_id = :project_id AND queue = :queue) AS is_known,
    (SELECT true FROM sessions WHERE {_WITH_NEWS} LIMIT 1) AS has_news,
    (SELECT true FROM processing WHERE project_id = :project_id AND queue = :queue AND {_FREE} ORDER BY ready_at LIMIT 1) AS has_work""")

# A row waits since the session's last append. One that is ready is left alone: it waits longer. So is one that has all messages: its queue
# was faster than the distribution.
_DISTRIBUTE = text(f"""
WITH news AS (
    SELECT key, log, last_seq, active_at FROM sessions WHERE {_WITH_NEWS} LIMIT :batch FOR NO KEY UPDATE SKIP LOCKED
), cleared AS (
    UPDATE sessions s SET has_news = false FROM news WHERE s.key = news.key
), told AS (
    INSERT INTO processing AS p (key, log, queue, project_id, is_ready, ready_at)
    SELECT news.key, news.log, q.queue, q.project_id, true, news.active_at
    FROM news, queues q WHERE q.project_id = :project_id AND news.last_seq > 0
    ON CONFLICT (key, log, queue) DO UPDATE SET is_ready = true, ready_at = excluded.ready_at
    WHERE NOT p.is_ready AND p.done_seq < (SELECT news.last_seq FROM news WHERE news.key = p.key)
)
SELECT count(*) AS count FROM news""")

_COUNT_QUEUES = text("SELECT count(*) AS count FROM queues WHERE project_id = :project_id")
_INSERT_QUEUE = text(
    "INSERT INTO queues (project_id, queue) VALUES (:project_id, :queue) ON CONFLICT DO NOTHING RETURNING queue"
)
_REMOVE_OLD_ROWS = text("""
DELETE FROM processing p USING sessions s WHERE s.project_id = :project_id AND p.key = s.key AND p.log = s.log AND p.queue = :queue""")
_REMOVE_OLD_EXCEPTIONS = text("""
DELETE FROM processing_exceptions e USING sessions s
WHERE s.project_id = :project_id AND e.key = s.key AND e.log = s.log AND e.queue = :queue""")
_INSERT_ROWS = text("""
INSERT INTO processing (key, log, queue, project_id, is_ready, ready_at)
SELECT key, log, :queue, project_id, true, active_at FROM sessions
WHERE project_id = :project_id AND NOT has_news AND last_seq > 0
ON CONFLICT DO NOTHING""")

_PICK = text(f"""
SELECT key, log, done_seq FROM processing WHERE project_id = :project_id AND queue = :queue AND {_FREE}
ORDER BY ready_at LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED""")

_CANDIDATES = text(f"""
SELECT s.key, s.log, s.session_id, s.last_seq, ARRAY(
    SELECT e.seq FROM processing_exceptions e
    WHERE e.key = s.key AND e.log = s.log AND e.queue = :queue AND e.status = {AGAIN} ORDER BY e.seq LIMIT :max_messages) AS again
FROM sessions s JOIN unnest((:keys)::uuid[], (:logs)::uuid[]) AS picked (key, log) ON s.key = picked.key AND s.log = picked.log
WHERE s.project_id = :project_id AND {ALIVE}""")

# While a row is leased, it stands in the order where it will wait from: when the lease runs out. So others do not pass by it meanwhile, and
# a session whose workers die is not always the first again. The first seq of a lease stays in the row after its end, to count the attempts.
_LEASE = text("""
UPDATE processing p SET
    lease_id = l.lease_id, lease_until = statement_timestamp() + :duration, lease_firsts = l.firsts, lease_lasts = l.lasts,
    ready_at = statement_timestamp() + :duration, worker = :worker,
    attempt = CASE WHEN p.lease_firsts[1] = l.firsts[1] THEN p.attempt ELSE 0 END + 1
FROM jsonb_to_recordset(:leases) AS l (key uuid, log uuid, lease_id uuid, firsts bigint[], lasts bigint[])
WHERE p.key = l.key AND p.log = l.log AND p.queue = :queue AND p.project_id = :project_id
RETURNING p.key, p.lease_until, p.attempt""")

_REST = text("""
UPDATE processing p SET is_ready = false, lease_id = NULL, lease_until = NULL
FROM unnest((:keys)::uuid[], (:logs)::uuid[]) AS r (key, log)
WHERE p.key = r.key AND p.log = r.log AND p.queue = :queue AND p.project_id = :project_id""")

_FORGET_ROWS = text("""
DELETE FROM processing p USING unnest((:keys)::uuid[], (:logs)::uuid[]) AS r (key, log)
WHERE p.key = r.key AND p.log = r.log AND p.queue = :queue AND p.project_id = :project_id""")
_FORGET_EXCEPTIONS = text("""
DELETE FROM processing_exceptions e USING unnest((:keys)::uuid[], (:logs)::uuid[]) AS r (key, log)
WHERE e.key = r.key AND e.log = r.log AND e.queue = :queue""")

_EXTEND = text(f"""
UPDATE processing p SET lease_until = statement_timestamp() + :duration
FROM sessions s
WHERE p.key = :key AND p.log = :log AND p.queue = :queue AND p.project_id = :project_id AND p.lease_id = :lease_id
    AND s.key = p.key AND s.log = p.log AND s.project_id = p.project_id AND {ALIVE}
RETURNING s.session_id, p.lease_firsts, p.lease_lasts, p.lease_until, p.attempt""")

_LOCK_ROW = text(f"""
SELECT done_seq, attempt, lease_id, lease_firsts, lease_lasts, lease_until > statement_timestamp() AS is_live
FROM processing WHERE {_OF_ROW} AND project_id = :project_id FOR NO KEY UPDATE""")
_HEAD = text(
    f"SELECT last_seq FROM sessions WHERE key = :key AND log = :log AND project_id = :project_id AND {ALIVE}"
)

_DELETE_AGAIN = text(f"""
DELETE FROM processing_exceptions e USING unnest((:firsts)::bigint[], (:lasts)::bigint[]) AS r (first, last)
WHERE e.key = :key AND e.log = :log AND e.queue = :queue AND e.status = {AGAIN} AND e.seq BETWEEN r.first AND r.last""")
_INSERT_FAILED = text(f"""
INSERT INTO processing_exceptions (key, log, queue, seq, status, error)
SELECT :key, :log, :queue, f.seq, {FAILED}, f.error FROM unnest((:seqs)::bigint[], (:errors)::text[]) AS f (seq, error)
ON CONFLICT (key, log, queue, seq) DO UPDATE SET status = excluded.status, error = excluded.error, updated_at = now()""")
_KEEP_LEASE = text(f"""
UPDATE processing SET
    done_seq = :done_seq, attempt = :attempt, lease_firsts = (:firsts)::bigint[], lease_lasts = (:lasts)::bigint[]
WHERE {_OF_ROW}""")
_END_LEASE = text(f"""
UPDATE processing SET
    done_seq = :done_seq, attempt = :attempt, lease_id = NULL, lease_until = NULL, worker = '', ready_at = clock_timestamp(),
    is_ready = :last_seq > :done_seq OR EXISTS (SELECT FROM processing_exceptions WHERE {_OF_ROW} AND status = {AGAIN})
WHERE {_OF_ROW}""")

_REQUEUE_FAILED = text(f"""
UPDATE processing_exceptions SET status = {AGAIN}, error = '', updated_at = now() WHERE {_OF_ROW} AND status = {FAILED} RETURNING seq""")
_REQUEUE_SEQS = text(f"""
INSERT INTO processing_exceptions AS e (key, log, queue, seq, status)
SELECT :key, :log, :queue, seq, {AGAIN} FROM unnest((:seqs)::bigint[]) AS r (seq)
ON CONFLICT (key, log, queue, seq) DO UPDATE SET status = {AGAIN}, error = '', updated_at = now() WHERE e.status = {FAILED}
RETURNING seq""")
_DELETE_FROM = text(
    f"DELETE FROM processing_exceptions WHERE {_OF_ROW} AND seq >= :from_seq RETURNING status"
)
_REWIND = text(f"UPDATE processing SET done_seq = :done_seq, attempt = 0 WHERE {_OF_ROW}")
_REVOKE = text(f"""
UPDATE processing SET lease_id = NULL, lease_until = NULL, worker = '', attempt = 0, is_ready = true, ready_at = clock_timestamp()
WHERE {_OF_ROW}""")
_WAKE = text(
    f"UPDATE processing SET is_ready = true, ready_at = clock_timestamp() WHERE {_OF_ROW} AND NOT is_ready"
)


def _counts(condition: str) -> str:
    return f"""
WITH rows AS (
    SELECT s.last_seq, COALESCE(p.done_seq, 0) AS done, CASE WHEN p.lease_until > statement_timestamp() THEN
        (SELECT sum(l.last - l.first + 1) FROM unnest(p.lease_firsts, p.lease_lasts) AS l (first, last)) ELSE 0 END AS leased
    FROM sessions s LEFT JOIN processing p ON p.key = s.key AND p.log = s.log AND p.queue = :queue
    WHERE s.project_id = :project_id {condition} AND {ALIVE}
), exceptions AS (
    SELECT count(*) FILTER (WHERE e.status = {AGAIN}) AS again, count(*) FILTER (WHERE e.status = {FAILED}) AS failed
    FROM processing_exceptions e JOIN sessions s ON s.key = e.key AND s.log = e.log
    WHERE e.queue = :queue AND s.project_id = :project_id {condition} AND {ALIVE}
)
SELECT COALESCE(sum(last_seq), 0)::bigint AS messages, COALESCE(sum(done), 0)::bigint AS done, COALESCE(sum(leased), 0)::bigint AS leased,
    (SELECT again FROM exceptions) AS again, (SELECT failed FROM exceptions) AS failed
FROM rows"""


_COUNTS_OF_PROJECT = text(_counts(""))
_COUNTS_OF_SESSION = text(_counts("AND s.key = :key"))

_FAILURES = text(f"""
SELECT e.seq, e.error FROM processing_exceptions e JOIN sessions s ON s.key = e.key AND s.log = e.log
WHERE e.key = :key AND s.project_id = :project_id AND {ALIVE} AND e.queue = :queue AND e.status = {FAILED} AND e.seq > :after
ORDER BY e.seq LIMIT :limit""")

_HAS_QUEUE = text("SELECT queue FROM queues WHERE project_id = :project_id AND queue = :queue")
_QUEUES = text("SELECT queue FROM queues WHERE project_id = :project_id ORDER BY queue")
_DELETE_QUEUE = text(
    "DELETE FROM queues WHERE project_id = :project_id AND queue = :queue RETURNING queue"
)
_SESSIONS_AFTER = text("""
SELECT session_id, key, log FROM sessions WHERE project_id = :project_id AND session_id > :after ORDER BY session_id LIMIT :batch""")


class TooManyQueues(Exception):
    """The project has as many queues as it may."""


class LeaseGone(Exception):
    """The row is not leased under this id any more, or its session is gone."""


@dataclass(frozen=True, slots=True)
class LeaseRef:
    """RequeueSelector lease of which row."""

    key: UUID
    log: UUID
    queue: str
    lease_id: UUID


@dataclass(frozen=True, slots=True)
class Leased:
    """A lease. attempt: leases in a row of these messages, this one included."""

    ref: LeaseRef
    session_id: str
    ranges: Ranges
    until: datetime
    attempt: int


@dataclass(frozen=True, slots=True)
class QueueState:
    """What a lease may be made of: a session's seqs up to last_seq, those up to done_seq dealt with but for `again` (ascending)."""

    done_seq: int
    last_seq: int
    again: list[int]


@dataclass(frozen=True, slots=True)
class HeldLease:
    """A lease that is to be acknowledged. Its ranges are above done_seq, or they are of messages that are pending again."""

    done_seq: int
    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What an acknowledgement changes.

    Args:
        done: ranges that are dealt with; failures: seq -> error of those among them that failed.
        rest: what stays leased. Empty = the lease ends.
    """

    done: Ranges
    failures: Mapping[int, str]
    rest: Ranges


@dataclass(frozen=True, slots=True)
class Counts:
    """Messages of a session or a project, as they stand in the tables.

    Args:
        messages: all. done: up to done_seq, exceptions included. leased: by leases that have not run out. again, failed: exceptions.
    """

    messages: int
    done: int
    leased: int
    again: int
    failed: int


class ProcessingStore:
    """Queues and their progress. Keys are those of sessions; every method takes the caller's project."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
        choose: Callable[[QueueState], Ranges],
    ) -> list[Leased]:
        """Lease rows that are ready, those that wait longest first. An unknown queue is registered.

        Args:
            choose: the ranges to lease; none where nothing is pending.
        Raises: TooManyQueues.
        """
        which: dict[str, object] = {"project_id": project_id, "queue": queue}
        [look] = await self._database.rows(_LOOK, which)
        if not look["is_known"]:
            await self._register(project_id, queue, max_queues)
        if look["has_news"]:
            await self._distribute(project_id)
        elif look["is_known"] and not look["has_work"]:
            return []
        leases: list[Leased] = []
        while len(leases) < max_sessions:
            async with self._database.transaction() as connection:
                picked = await self._database.rows(
                    _PICK, which | {"limit": max_sessions - len(leases)}, on=connection
                )
                if not picked:
                    break
                # The rows are locked: what is read from now on knows of every append that they were made ready for.
                parameters = which | _keys(picked) | {"max_messages": max_messages}
                alive = await self._database.rows(_CANDIDATES, parameters, on=connection)
                # By the log too: a session of the same id that is gone may have a row beside.
                sessions = {(row["key"], row["log"]): row for row in alive}
                chosen: list[tuple[LeaseRef, str, Ranges]] = []
                empty: list[DictRow] = []
                for row in picked:
                    if session := sessions.get((row["key"], row["log"])):
                        ranges = choose(
                            QueueState(row["done_seq"], session["last_seq"], session["again"])
                        )
                        if ranges:
                            chosen.append(
                                (
                                    LeaseRef(row["key"], row["log"], queue, uuid4()),
                                    session["session_id"],
                                    ranges,
                                )
                            )
                        else:
                            empty.append(row)
                if empty:
                    await self._database.rows(_REST, which | _keys(empty), on=connection)
                if dead := [row for row in picked if (row["key"], row["log"]) not in sessions]:
                    # Deleted or expired: it does not come back, and must not be in the way of others until it is purged.
                    await self._forget(connection, which | _keys(dead))
                if chosen:
                    leases += await self._take(connection, which, chosen, worker, duration_ms)
        return leases

    async def extend(self, ref: LeaseRef, project_id: UUID, duration_ms: int) -> Leased:
        """Let a lease last from now on. Raises: LeaseGone."""
        parameters = _row_of(ref, project_id) | {
            "lease_id": ref.lease_id,
            "duration": timedelta(milliseconds=duration_ms),
        }
        rows = await self._database.rows(_EXTEND, parameters)
        if not rows:
            raise LeaseGone
        [row] = rows
        return Leased(ref, row["session_id"], _ranges(row), row["lease_until"], row["attempt"])

    async def acknowledge(
        self, ref: LeaseRef, project_id: UUID, decide: Callable[[HeldLease], Acknowledgement]
    ) -> None:
        """Store what became of a lease. What `decide` raises leaves all as it was.

        Raises: LeaseGone.
        """
        which = _row_of(ref, project_id)
        async with self._database.transaction() as connection:
            row = await self._lock_row(connection, which)
            if row is None or row["lease_id"] != ref.lease_id:
                raise LeaseGone
            # After the lock, as in lease().
            head = await self._database.rows(_HEAD, which, on=connection)
            if not head:
                raise LeaseGone
            held = HeldLease(row["done_seq"], _ranges(row))
            progress = decide(held)
            done_seq = held.done_seq
            if progress.done:
                if progress.done[0][0] > done_seq:
                    done_seq = progress.done[-1][1]
                else:
                    await self._database.rows(
                        _DELETE_AGAIN, which | _bounds(progress.done), on=connection
                    )
            if progress.failures:
                failures = {
                    "seqs": list(progress.failures),
                    "errors": list(progress.failures.values()),
                }
                await self._database.rows(_INSERT_FAILED, which | failures, on=connection)
            after = which | {"done_seq": done_seq, "last_seq": head[0]["last_seq"]}
            if progress.rest:
                after |= {"attempt": 1 if progress.done else row["attempt"]} | _bounds(
                    progress.rest
                )
                await self._database.rows(_KEEP_LEASE, after, on=connection)
            else:
                await self._database.rows(
                    _END_LEASE,
                    after | {"attempt": 0 if progress.done else row["attempt"]},
                    on=connection,
                )

    async def requeue_failed(self, key: UUID, log: UUID, project_id: UUID, queue: str) -> int:
        """Make failed messages pending. Answers how many are pending now that were not before."""
        which = {"key": key, "log": log, "queue": queue, "project_id": project_id}
        async with self._database.transaction() as connection:
            row = await self._lock_row(connection, which)
            if row is None:
                return 0  # not even distributed: all is pending
            changed = await self._database.rows(_REQUEUE_FAILED, which, on=connection)
            if changed:
                await self._database.rows(_WAKE, which, on=connection)
            return len(changed)

    async def requeue_seqs(
        self, key: UUID, log: UUID, project_id: UUID, queue: str, seqs: Sequence[int]
    ) -> int:
        """Make these messages pending; those that are pending or leased stay so. Answers as requeue_failed."""
        which = {"key": key, "log": log, "queue": queue, "project_id": project_id}
        async with self._database.transaction() as connection:
            row = await self._lock_row(connection, which)
            done = [seq for seq in seqs if row and seq <= row["done_seq"]]
            if not done:
                return 0
            changed = await self._database.rows(
                _REQUEUE_SEQS, which | {"seqs": done}, on=connection
            )
            if changed:
                await self._database.rows(_WAKE, which, on=connection)
            return len(changed)

    async def requeue_from(
        self, key: UUID, log: UUID, project_id: UUID, queue: str, from_seq: int
    ) -> int:
        """Make all messages from a seq on pending; a lease that has some of them ends. Answers as requeue_failed."""
        which = {"key": key, "log": log, "queue": queue, "project_id": project_id}
        async with self._database.transaction() as connection:
            row = await self._lock_row(connection, which)
            if row is None:
                return 0
            is_ended = row["lease_id"] is not None and row["lease_lasts"][-1] >= from_seq
            count = 0
            if from_seq <= row["done_seq"]:
                removed = await self._database.rows(
                    _DELETE_FROM, which | {"from_seq": from_seq}, on=connection
                )
                await self._database.rows(
                    _REWIND, which | {"done_seq": from_seq - 1}, on=connection
                )
                count = (
                    row["done_seq"]
                    - from_seq
                    + 1
                    - sum(exception["status"] == AGAIN for exception in removed)
                )
            if is_ended:
                # What was leased was running, not pending, wherever it lies; re-queued messages above were taken off as pending ones.
                if row["is_live"]:
                    count += sum(last - first + 1 for first, last in _ranges(row))
                await self._database.rows(_REVOKE, which, on=connection)
            elif count:
                await self._database.rows(_WAKE, which, on=connection)
            return count

    async def counts(self, project_id: UUID, queue: str, key: UUID | None) -> Counts:
        """Of one session, or with None of all sessions of the project."""
        which: dict[str, object] = {"project_id": project_id, "queue": queue}
        if key is None:
            [row] = await self._database.rows(_COUNTS_OF_PROJECT, which)
        else:
            [row] = await self._database.rows(_COUNTS_OF_SESSION, which | {"key": key})
        return Counts(**row)

    async def failures(
        self, key: UUID, project_id: UUID, queue: str, after: int, limit: int
    ) -> list[tuple[int, str]]:
        """Failed messages above the seq `after`: (seq, error), by seq."""
        parameters = {
            "key": key,
            "project_id": project_id,
            "queue": queue,
            "after": after,
            "limit": limit,
        }
        return [
            (row["seq"], row["error"]) for row in await self._database.rows(_FAILURES, parameters)
        ]

    async def has_queue(self, project_id: UUID, queue: str) -> bool:
        return bool(
            await self._database.rows(_HAS_QUEUE, {"project_id": project_id, "queue": queue})
        )

    async def queues(self, project_id: UUID) -> list[str]:
        """By name."""
        return [
            row["queue"] for row in await self._database.rows(_QUEUES, {"project_id": project_id})
        ]

    async def delete_queue(self, project_id: UUID, queue: str) -> bool:
        """Forget a queue, then its rows in batches. False where there is none.

        The queue goes first, at once, and all its progress with it, also where the rest is interrupted: a registration removes what is
        left of a queue of its name. What belongs to sessions that are gone, the purger removes.
        """
        which: dict[str, object] = {"project_id": project_id, "queue": queue}
        async with self._locked_queues(project_id) as connection:
            if not await self._database.rows(_DELETE_QUEUE, which, on=connection):
                return False
        after = ""
        while True:
            async with self._locked_queues(project_id) as connection:
                if await self._database.rows(_HAS_QUEUE, which, on=connection):
                    return True  # registered anew: its rows are not ours
                sessions = await self._database.rows(
                    _SESSIONS_AFTER,
                    which | {"after": after, "batch": SESSIONS_A_DELETION},
                    on=connection,
                )
                if not sessions:
                    return True
                await self._forget(connection, which | _keys(sessions))
                after = sessions[-1]["session_id"]

    @asynccontextmanager
    async def _locked_queues(self, project_id: UUID) -> AsyncIterator[Connection]:
        """A transaction in which nobody else distributes to the project's queues, registers or deletes one."""
        async with self._database.transaction() as connection:
            await self._database.rows(_LOCK, {"project_id": project_id}, on=connection)
            yield connection

    async def _distribute(self, project_id: UUID) -> None:
        """Tell the project's queues of sessions that have news."""
        parameters: dict[str, object] = {"project_id": project_id, "batch": SESSIONS_A_DISTRIBUTION}
        for _ in range(DISTRIBUTIONS_A_LEASE):
            async with self._locked_queues(project_id) as connection:
                [told] = await self._database.rows(_DISTRIBUTE, parameters, on=connection)
            if told["count"] < SESSIONS_A_DISTRIBUTION:
                return

    async def _register(self, project_id: UUID, queue: str, max_queues: int) -> None:
        """Make the queue, and rows of the sessions that were distributed before. Raises: TooManyQueues."""
        which: dict[str, object] = {"project_id": project_id, "queue": queue}
        async with self._locked_queues(project_id) as connection:
            [there] = await self._database.rows(_COUNT_QUEUES, which, on=connection)
            if not await self._database.rows(_INSERT_QUEUE, which, on=connection):
                return  # somebody else just did
            if there["count"] >= max_queues:
                raise TooManyQueues
            await self._database.rows(_REMOVE_OLD_ROWS, which, on=connection)
            await self._database.rows(_REMOVE_OLD_EXCEPTIONS, which, on=connection)
            await self._database.rows(_INSERT_ROWS, which, on=connection)

    async def _take(
        self,
        connection: Connection,
        which: Mapping[str, object],
        chosen: Sequence[tuple[LeaseRef, str, Ranges]],
        worker: str,
        duration_ms: int,
    ) -> list[Leased]:
        leases = [
            {
                "key": str(ref.key),
                "log": str(ref.log),
                "lease_id": str(ref.lease_id),
                "firsts": [first for first, _ in ranges],
                "lasts": [last for _, last in ranges],
            }
            for ref, _, ranges in chosen
        ]
        parameters = {
            **which,
            "leases": Jsonb(leases),
            "worker": worker,
            "duration": timedelta(milliseconds=duration_ms),
        }
        taken = {
            row["key"]: row for row in await self._database.rows(_LEASE, parameters, on=connection)
        }
        return [
            Leased(
                ref, session_id, ranges, taken[ref.key]["lease_until"], taken[ref.key]["attempt"]
            )
            for ref, session_id, ranges in chosen
        ]

    async def _forget(self, connection: Connection, which: Mapping[str, object]) -> None:
        # Rows first: an acknowledgement that has one locked still adds exceptions, which the second statement then sees.
        await self._database.rows(_FORGET_ROWS, which, on=connection)
        await self._database.rows(_FORGET_EXCEPTIONS, which, on=connection)

    async def _lock_row(
        self, connection: Connection, which: Mapping[str, object]
    ) -> DictRow | None:
        rows = await self._database.rows(_LOCK_ROW, which, on=connection)
        return rows[0] if rows else None


def _row_of(ref: LeaseRef, project_id: UUID) -> dict[str, object]:
    return {"key": ref.key, "log": ref.log, "queue": ref.queue, "project_id": project_id}


def _keys(rows: Sequence[DictRow]) -> dict[str, object]:
    return {"keys": [row["key"] for row in rows], "logs": [row["log"] for row in rows]}


def _bounds(ranges: Ranges) -> dict[str, object]:
    return {"firsts": [first for first, _ in ranges], "lasts": [last for _, last in ranges]}


def _ranges(row: DictRow) -> Ranges:
    return list(zip(row["lease_firsts"], row["lease_lasts"], strict=True))


__all__ = [
    "Acknowledgement",
    "Counts",
    "HeldLease",
    "LeaseGone",
    "LeaseRef",
    "Leased",
    "ProcessingStore",
    "QueueState",
    "Ranges",
    "TooManyQueues",
]
