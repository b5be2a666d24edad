"""Statements about watched sessions, and notifications between server processes."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from uuid import UUID

import psycopg

from sessiond_server.db.expiry import ALIVE, TOUCH_DUE
from sessiond_server.db.pool import Database, DatabaseUnavailable

CHANNEL = "sessiond"
APPLICATION_NAME = "sessiond listen"

_STATES = f"""
SELECT key, log, epoch, last_seq, {ALIVE}, {TOUCH_DUE}, running_turn
FROM sessions WHERE key = ANY(%s)"""

# A locked row is being accessed anyway. Waiting for it while holding other locks could deadlock.
_TOUCH = f"""
UPDATE sessions SET used_at = clock_timestamp() WHERE key IN (
    SELECT key FROM sessions WHERE key = ANY(%s) AND {ALIVE}
    ORDER BY key FOR UPDATE SKIP LOCKED)"""

_NOTIFY = f"SELECT pg_notify('{CHANNEL}', payload) FROM unnest(%s::text[]) AS payload"


@dataclass(frozen=True, slots=True)
class State:
    """The state of a watched session.

    Attributes:
        log: the session's log.
        epoch: number of the session's rewinds.
        last_seq: seq of the session's last message.
        is_alive: whether the session has not expired.
        touch_due: whether used_at is old enough to be worth an update.
        running_turn: the turn that is running; None = none is.
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

        Do not call this in the transaction of a change: a commit with a notification waits for all
        other such commits in the database server.
        """
        async with self._database.connection() as connection:
            await connection.execute(_NOTIFY, (list(payloads),))

    async def listen(self) -> AsyncGenerator[str, None]:
        """Receive notifications on a separate connection.

        Yields:
            "" as soon as the connection listens, then each payload, including those of this
            process.

        Raises:
            DatabaseUnavailable: if the connection breaks or cannot be established.
        """
        try:
            async with await self._database.connect_alone(APPLICATION_NAME) as connection:
                await connection.execute(f"LISTEN {CHANNEL}")
                yield ""
                async for notification in connection.notifies():
                    yield notification.payload
        except psycopg.Error as e:
            raise DatabaseUnavailable("the connection that listens broke") from e
