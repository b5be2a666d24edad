"""Hands over the turns that are still running when this process ends.

Another process continues these turns, or this one does after its restart.
"""

import time
from uuid import UUID

import structlog

from sessiond_server.core.states import TurnState
from sessiond_server.turns.changes.transitions import TurnTransitions
from sessiond_server.turns.state import RunningTurn, TurnChanges, TurnLease
from sessiond_server.turns.store.leases import TurnLeaseStore
from sessiond_server.turns.store.texts import TextStore
from sessiond_server.turns.store.turns import TurnStore

log = structlog.get_logger(__name__)


class Handovers:
    """Gives and takes turns, each in the transaction of a TurnChanges."""

    def __init__(
        self,
        leases: TurnLeaseStore,
        store: TurnStore,
        texts: TextStore,
        transitions: TurnTransitions,
        lease: TurnLease,
    ) -> None:
        self._leases = leases
        self._store = store
        self._texts = texts
        self._transitions = transitions
        self._lease = lease

    async def give(self, changes: TurnChanges, running: RunningTurn) -> None:
        """Leave a turn of this process to other processes.

        The text that its model has written is appended as an incomplete message, whatever
        keep_partial says, because watchers have seen it. The model then continues after that
        message.
        """
        change, turn_id = changes.change, running.turn_id
        owned = await self._store.find(change, turn_id) if change.log == running.log else None
        if (
            owned
            and owned.turn.state == TurnState.RUNNING
            and owned.holder == self._lease.holder
            # A later end_seq means that an earlier commit has succeeded without an acknowledgement.
            and owned.turn.end_seq <= running.end_seq
        ):
            await self._transitions.append_partial(changes, turn_id, running, always=True)
            if running.has_saved:
                await self._texts.drop(change, turn_id)
            await self._leases.give(change, turn_id, self._lease.holder, running.usage)
            log.info("turn_handed_over", turn_id=str(turn_id))
        changes.settled = turn_id

    async def take(self, changes: TurnChanges, turn_id: UUID) -> bool:
        """Run a turn that another process has left. Return False if no process has left it."""
        taken = await self._leases.take(
            changes.change, turn_id, self._lease.holder, self._lease.stored_s
        )
        owned = await self._store.find(changes.change, turn_id) if taken else None
        if taken is None or owned is None:
            return False
        running = await self._transitions.resumed(changes, owned)
        running.is_resumed = True
        running.began = time.monotonic() - taken.age_s
        running.usage = taken.usage
        changes.started = running
        log.info("turn_taken_over", turn_id=str(turn_id))
        return True
