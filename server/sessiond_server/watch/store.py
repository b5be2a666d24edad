"""What watching asks of the database: how the watched sessions stand, and notices from one server process to the others."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from uuid import UUID

import psycopg

from sessiond_server.db.expiry import ALIVE, TOUCH_DUE
from sessiond_server.db.pool import Database, DatabaseUnavailable

CHANNEL = "sessiond"
APPLICATION_NAME = "sessiond listen"

_STATES = f"SELECT key, log, last_seq, {ALIVE}, {TOUCH_DUE} FROM sessions WHERE key = ANY(%s)"

# A row that somebody else holds is in use already; to wait for it, with others held, would be asking for a deadlock.
_TOUCH = f"""
UPDATE sessions SET used_at = clock_timestamp() WHERE key IN (
    SELECT key FROM sessions WHERE key = ANY(%s) AND {ALIVE} ORDER BY key FOR UPDATE SKIP LOCKED)"""

_NOTIFY = f"SELECT pg_notify('{CHANNEL}', payload) FROM unnest(%s::text[]) AS payload"


@dataclass(frozen=True, slots=True)
class State:
    """How a session stands. is_alive: it has not expired. touch_due: its expiry is worth moving on."""

    log: UUID
    last_seq: int
    is_alive: bool
    touch_due: bool


class WatchStore:
    """Statements for all watched sessions of a process at once, and the notices between processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def states(self, keys: Sequence[UUID]) -> dict[UUID, State]:
        """Those of the sessions that are there."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                _STATES, (list(keys),), prepare=self._database.prepare, binary=True
            )
            return {key: State(*state) for key, *state in await cursor.fetchall()}

    async def touch(self, keys: Sequence[UUID]) -> None:
        """Count a use of each: the idle time starts anew."""
        async with self._database.connection() as connection:
            await connection.execute(_TOUCH, (list(keys),), prepare=self._database.prepare)

    async def notify(self, payloads: Sequence[str]) -> None:
        """Tell every process that listens. A payload has less than 8,000 bytes.

        Never in the transaction of a change: a commit with a notice waits for every other such commit of the database server.
        """
        async with self._database.connection() as connection:
            await connection.execute(_NOTIFY, (list(payloads),))

    async def listen(self) -> AsyncGenerator[str, None]:
        """The payloads that come, this process's own among them, on a connection for nothing else; first "", once it listens.

        Raises: DatabaseUnavailable, when the connection breaks or cannot be made.
        """
        try:
            async with await self._database.connect_alone(APPLICATION_NAME) as connection:
                await connection.execute(f"LISTEN {CHANNEL}")
                yield ""
                async for notice in connection.notifies():
                    yield notice.payload
        except psycopg.Error as e:
            raise DatabaseUnavailable("the connection that listens broke") from e
