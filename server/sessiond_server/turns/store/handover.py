"""Statements that hand a running turn from one process to another.

A turn that has been handed over is still the running turn of its session, but has no holder. Its
lease has run out, so that a server of an earlier version ends it instead of leaving it forever.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sessiond_server.core.states import TurnState
from sessiond_server.sessions.store.lock import Change

_GIVE = """
UPDATE turns SET holder = NULL, lease_until = clock_timestamp(),
    usage = COALESCE(%(usage)s::bigint[], usage)
WHERE key = %(key)s AND log = %(log)s AND turn_id = %(turn_id)s AND state = %(running)s
    AND holder = %(holder)s"""

_TAKE = """
UPDATE turns SET holder = %(holder)s, lease_until = clock_timestamp() + %(lease)s
WHERE key = %(key)s AND log = %(log)s AND turn_id = %(turn_id)s AND state = %(running)s
    AND holder IS NULL
RETURNING extract(epoch FROM clock_timestamp() - started_at)::float8 AS age_s, usage"""


@dataclass(frozen=True, slots=True)
class TakenTurn:
    """A turn that was handed over to this process.

    Attributes:
        age_s: seconds since the start of the turn.
        usage: tokens of its model calls so far; None if not reported.
    """

    age_s: float
    usage: list[int] | None


class HandoverStore:
    """The statements; each runs in a transaction that has locked the session's row."""

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
        parameters = {"turn_id": turn_id, "running": TurnState.RUNNING, "holder": holder}
        await change.rows(_GIVE, **parameters, usage=tokens)

    async def take(
        self, change: Change, turn_id: UUID, holder: UUID, lease_s: float
    ) -> TakenTurn | None:
        """Take a turn that was left to other processes. Return None if it was not left."""
        parameters = {"turn_id": turn_id, "running": TurnState.RUNNING, "holder": holder}
        rows = await change.rows(_TAKE, **parameters, lease=timedelta(seconds=lease_s))
        return TakenTurn(**rows[0]) if rows else None
