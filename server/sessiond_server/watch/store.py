"""Statements about watched sessions, and notifications between server processes."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from sessiond_server.db.connections import closing
from sessiond_server.db.expiry import ALIVE, TOUCH_DUE
from sessiond_server.db.pool import Database, DatabaseUnavailable
from sessiond_server.db.prepared import TEXT_ARRAY, PreparedStatement

CHANNEL = "sessiond"
APPLICATION_NAME = "sessiond listen"

_STATES = f"""
SELECT key, log, epoch, last_seq, {ALIVE}, {TOUCH_DUE}, running_turn
FROM sessions WHERE key = ANY(%s)"""

# A locked row is skipped, because the session is being accessed anyway, and because waiting for the
# row while holding other locks could deadlock.
_TOUCH = f"""
UPDATE sessions SET used_at = clock_timestamp() WHERE key IN (
    SELECT key FROM sessions WHERE key = ANY(%s) AND {ALIVE}
    ORDER BY key FOR UPDATE SKIP LOCKED)"""

# Processes that cannot listen read the table `notices`, which is written to only while there are
# such processes.
_NOTIFY = PreparedStatement(
    "watch.notify",
    f"""
WITH payloads AS (SELECT payload FROM unnest(%(payloads)s) AS payload),
kept AS (
    INSERT INTO notices (payload) SELECT payload FROM payloads WHERE EXISTS (
        SELECT FROM notice_readers WHERE seen_at > statement_timestamp() - interval '15 seconds')
    RETURNING id)
SELECT pg_notify('{CHANNEL}', payload) FROM payloads""",
    {"payloads": TEXT_ARRAY},
    columns=(),
)

_REGISTER = """
INSERT INTO notice_readers (reader, seen_at) VALUES (%(reader)s, clock_timestamp())
ON CONFLICT (reader) DO UPDATE SET seen_at = excluded.seen_at"""

_UNREGISTER = "DELETE FROM notice_readers WHERE reader = %(reader)s"

# Notices are not committed in the order of their times, so the time window of each read overlaps
# with that of the previous one.
_READ = """
SELECT id, payload FROM notices
WHERE sent_at > statement_timestamp() - %(window_s)s * interval '1 second' AND id <> ALL(%(seen)s)
ORDER BY sent_at"""

_CLEAN = """
WITH old AS (
    DELETE FROM notices WHERE id IN (
        SELECT id FROM notices WHERE sent_at < statement_timestamp() - interval '30 seconds'
        ORDER BY id FOR UPDATE SKIP LOCKED))
DELETE FROM notice_readers WHERE reader IN (
    SELECT reader FROM notice_readers WHERE seen_at < statement_timestamp() - interval '5 minutes'
    ORDER BY reader FOR UPDATE SKIP LOCKED)"""

# Pause between two reads of the table. While no caller waits for events, the table is read only
# after every IDLE_PAUSES pauses. Unit of READ_PAUSE_S: seconds.
READ_PAUSE_S, IDLE_PAUSES = 0.05, 5
# Maximum time between the timestamp of a notice and its commit.
OVERLAP_S = 2.0
# A reader that has not read for this long may have missed notices.
LONGEST_WINDOW_S = 15.0
HEARTBEAT_S = 3.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class State:
    """The state of a watched session.

    Attributes:
        log: the session's log.
        epoch: number of the session's rewinds.
        last_seq: seq of the session's last message.
        is_alive: whether the session has not expired.
        touch_due: whether used_at is old enough to be worth an update.
        running_turn: the turn that is running; None = no turn.
    """

    log: UUID
    epoch: int
    last_seq: int
    is_alive: bool
    touch_due: bool
    running_turn: UUID | None


class WatchStore:
    """Notifications, and statements that cover all watched sessions of a process at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def states(self, keys: Sequence[UUID]) -> dict[UUID, State]:
        """Return the states of sessions by key. Sessions that do not exist are left out."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                _STATES, (list(keys),), prepare=self._database.prepare, binary=True
            )
            return {key: State(*state) for key, *state in await cursor.fetchall()}

    async def touch(self, keys: Sequence[UUID]) -> None:
        """Update used_at of sessions, so that their idle time starts again."""
        async with self._database.connection() as connection:
            await connection.execute(_TOUCH, (list(keys),), prepare=self._database.prepare)

    async def notify(self, payloads: Sequence[str]) -> None:
        """Send payloads to every listening process. Each must have less than 8,000 bytes.

        Do not call this in the transaction of a change: PostgreSQL lets all commits that have a
        notification wait for each other.
        """
        async with self._database.connection() as connection:
            await _NOTIFY.run(connection, {"payloads": payloads})

    async def listen(
        self, is_watched: Callable[[], bool] = lambda: True
    ) -> AsyncGenerator[str, None]:
        """Receive notifications on a separate connection.

        Behind a pooler in transaction mode, PostgreSQL cannot notify. The notifications are then
        read from a table, twenty times a second.

        Args:
            is_watched: returns whether any caller waits for events. If not, the table is read four
                times a second.

        Yields:
            "" as soon as the connection listens, then each payload, including those of this
            process. "" again if notifications may have been missed.

        Raises:
            DatabaseUnavailable: if the connection breaks or cannot be established.
        """
        try:
            connection, can_listen = await self._database.connect_to_listen(APPLICATION_NAME)
            async with closing(connection):
                if not can_listen:
                    log.info("notifications_polled", pause_s=READ_PAUSE_S)
                    async for payload in _notices(connection, is_watched):
                        yield payload
                    return
                await connection.execute(f"LISTEN {CHANNEL}")
                yield ""
                async for notification in connection.notifies():
                    yield notification.payload
        except psycopg.Error as e:
            raise DatabaseUnavailable("the connection that listens broke") from e


async def _notices(
    connection: AsyncConnection[TupleRow], is_watched: Callable[[], bool]
) -> AsyncGenerator[str, None]:
    """Read notifications from the table, forever; see WatchStore.listen."""
    reader = {"reader": uuid4()}
    # By id: when the notice was read.
    seen: dict[UUID, float] = {}
    registered_at = last_read_at = -LONGEST_WINDOW_S
    try:
        while True:
            started_at = time.monotonic()
            if started_at - registered_at > HEARTBEAT_S:
                await connection.execute(_REGISTER, reader)
                await connection.execute(_CLEAN)
                registered_at = started_at
            window_s = started_at - last_read_at + OVERLAP_S
            if window_s > LONGEST_WINDOW_S:
                # At the start, and after a long interruption.
                window_s = OVERLAP_S
                yield ""
            cursor = await connection.execute(_READ, {"window_s": window_s, "seen": list(seen)})
            last_read_at = started_at
            for id_, payload in await cursor.fetchall():
                seen[id_] = started_at
                yield payload
            oldest = started_at - LONGEST_WINDOW_S - OVERLAP_S
            seen = {id_: at for id_, at in seen.items() if at > oldest}
            await _pause(is_watched)
    finally:
        if not connection.closed and not connection.broken:
            await connection.execute(_UNREGISTER, reader)


async def _pause(is_watched: Callable[[], bool]) -> None:
    for _ in range(IDLE_PAUSES):
        await asyncio.sleep(READ_PAUSE_S)
        if is_watched():
            return
