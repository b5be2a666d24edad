"""Checks whether the rows of sessions are locked, without waiting for the locks."""

from collections.abc import Sequence
from uuid import UUID

from sessiond_server.db.pool import Database

# A session that does not exist counts as free: calls that wait for it then find that it is gone.
_FREE = """
WITH free AS (
    SELECT key FROM sessions WHERE key = ANY(%(keys)b::uuid[]) FOR NO KEY UPDATE SKIP LOCKED
)
SELECT wanted FROM unnest(%(keys)b::uuid[]) AS wanted
WHERE wanted IN (SELECT key FROM free)
    OR NOT EXISTS (SELECT FROM sessions WHERE key = wanted)"""


class RowLockStore:
    """Locks on the rows of sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def free(self, keys: Sequence[UUID]) -> set[UUID]:
        """Return those of the sessions whose rows a writer could lock now.

        Raises:
            LockTimeout: if the table is locked.
            DatabaseUnavailable, PoolExhausted: as for Database.connection.
        """
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                _FREE, {"keys": list(keys)}, prepare=self._database.prepare, binary=True
            )
            return {key for (key,) in await cursor.fetchall()}
