"""Which process runs a turn.

The process that runs a turn renews its lease. When the lease has run out, the process counts as
gone, and any other process may end the turn. If the process was only suspended, it then finds that
the session runs another turn or none, and its appends have no effect.

A process that is shut down hands over its turns. Such a turn is still the running turn of its
session, but has no holder. Its lease has run out, so that a server of an earlier version ends it
instead of leaving it forever.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sessiond_server.db.expiry import ALIVE
from sessiond_server.db.pool import Database
from sessiond_server.sessions.store.lock import Change
from sessiond_server.turns.store.conditions import HELD, OF_TURN, QUEUED, RUNNING
from sessiond_server.turns.store.rows import OrphanedTurn

_GIVE = f"""
UPDATE turns SET holder = NULL, lease_until = clock_timestamp(),
    usage = COALESCE(%(usage)s::bigint[], usage)
WHERE {OF_TURN} AND {RUNNING} AND holder = %(holder)s"""

_TAKE = f"""
UPDATE turns SET holder = %(holder)s, lease_until = clock_timestamp() + %(lease)s
WHERE {OF_TURN} AND {RUNNING} AND holder IS NULL
RETURNING extract(epoch FROM clock_timestamp() - started_at)::float8 AS age_s, usage"""

_RENEW = f"""
UPDATE turns SET lease_until = clock_timestamp() + %(lease)s
FROM unnest(%(keys)s::uuid[], %(turn_ids)s::uuid[]) AS mine (key, turn_id)
WHERE turns.key = mine.key AND turns.turn_id = mine.turn_id AND {RUNNING}
    AND holder = %(holder)s
RETURNING turns.turn_id"""

# If a process was shut down or had no slot, a session may have queued turns but no running one.
# The statement then finds only the first of these queued turns. It skips a locked session until a
# later round, so that it never waits for a row that is locked for long, or that another process is
# recovering.
_ORPHANS = f"""
SELECT s.key, s.project_id, s.session_id, s.running_turn,
    COALESCE(turns.holder = %(holder)s, false) AS is_mine,
    s.running_turn IS NOT NULL AND turns.holder IS NULL AS is_left
FROM turns JOIN sessions s USING (key, log)
WHERE {ALIVE} AND (
    {RUNNING} AND NOT turn_id = ANY(%(running)s::uuid[])
    AND (turns.lease_until < clock_timestamp() OR turns.holder = %(holder)s)
    OR %(include_queued)s AND {QUEUED} AND s.running_turn IS NULL AND NOT {HELD}
    AND NOT EXISTS (
        SELECT FROM turns earlier WHERE earlier.key = turns.key AND earlier.log = turns.log
            AND earlier.state <= 2 AND earlier.place < turns.place
            AND NOT COALESCE(earlier.held_until > clock_timestamp(), false)))
ORDER BY COALESCE(turns.lease_until, turns.created_at) LIMIT %(limit)s
FOR NO KEY UPDATE OF s SKIP LOCKED"""
_IS_ORPHANED = f"""
SELECT turn_id FROM turns WHERE {OF_TURN} AND {RUNNING} AND lease_until < clock_timestamp()"""


@dataclass(frozen=True, slots=True)
class TakenTurn:
    """A turn that was handed over to this process.

    Attributes:
        age_s: seconds since the start of the turn.
        usage: tokens of its model calls so far; None if not reported.
    """

    age_s: float
    usage: list[int] | None


class TurnLeaseStore:
    """The leases of turns. Methods with a Change parameter run in its transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def give(
        self, change: Change, turn_id: UUID, holder: UUID, usage: Sequence[int] | None
    ) -> None:
        """Leave a turn to other processes, if `holder` still runs it.

        Args:
            change: the transaction.
            turn_id: the turn.
            holder: the calling process.
            usage: tokens of the model calls so far; None if not reported.
        """
        tokens = None if usage is None else list(usage)
        await change.rows(_GIVE, turn_id=turn_id, holder=holder, usage=tokens)

    async def take(
        self, change: Change, turn_id: UUID, holder: UUID, lease_s: float
    ) -> TakenTurn | None:
        """Take a turn that was left to other processes. Return None if it was not left."""
        lease = timedelta(seconds=lease_s)
        rows = await change.rows(_TAKE, turn_id=turn_id, holder=holder, lease=lease)
        return TakenTurn(**rows[0]) if rows else None

    async def is_orphaned(self, change: Change, turn_id: UUID) -> bool:
        """Return whether a turn is running and its lease has run out."""
        return bool(await change.rows(_IS_ORPHANED, turn_id=turn_id))

    async def renew(
        self, turns: Sequence[tuple[UUID, UUID]], holder: UUID, lease_s: float
    ) -> set[UUID]:
        """Renew the leases of turns.

        Args:
            turns: the session's key and the turn_id of each turn.
            holder: the process that holds the turns.
            lease_s: duration of the new leases, in seconds.

        Returns:
            The ids of the turns that the process still holds.
        """
        parameters = {
            "keys": [key for key, _ in turns],
            "turn_ids": [turn_id for _, turn_id in turns],
            "holder": holder,
            "lease": timedelta(seconds=lease_s),
        }
        return {row["turn_id"] for row in await self._database.rows(_RENEW, parameters)}

    async def orphans(
        self, holder: UUID, running: Sequence[UUID], limit: int, *, include_queued: bool
    ) -> list[OrphanedTurn]:
        """Return sessions whose turns no process runs; those that have waited longest come first.

        Args:
            holder: the calling process.
            running: the turns that this process runs, even if their leases have run out.
            limit: maximum number of sessions.
            include_queued: also return sessions that have only queued turns.
        """
        mine = {"holder": holder, "running": list(running)}
        parameters = {**mine, "include_queued": include_queued, "limit": limit}
        return [OrphanedTurn(**row) for row in await self._database.rows(_ORPHANS, parameters)]
