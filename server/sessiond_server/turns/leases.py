"""Leases of turns: renewal for this process's turns, and recovery of orphaned turns."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog

from sessiond_server.core.errors import Fault
from sessiond_server.core.supervision import Loop
from sessiond_server.db.pool import Contention, DatabaseUnavailable, PoolExhausted
from sessiond_server.sessions.store.lock import SessionMissing
from sessiond_server.turns.changes.handover import Handovers
from sessiond_server.turns.changes.transitions import TurnTransitions
from sessiond_server.turns.runner import TurnRunner
from sessiond_server.turns.state import TurnChanges, TurnLease, TurnSlots
from sessiond_server.turns.store.leases import TurnLeaseStore
from sessiond_server.turns.store.rows import OrphanedTurn
from sessiond_server.turns.store.turns import TurnStore

ORPHANS_A_ROUND = 100
# Each recovery holds a connection of the pool while it waits for its session's row.
RECOVERIES_AT_ONCE = 4
# How long the recovery of a turn may wait, e.g. for the session's row.
RECOVERY_TIMEOUT_S = 2.0

log = structlog.get_logger(__name__)


class TurnLeases:
    """Renews the leases of this process's turns, and recovers turns that no process runs."""

    def __init__(
        self,
        store: TurnStore,
        leases: TurnLeaseStore,
        transitions: TurnTransitions,
        runner: TurnRunner,
        lease: TurnLease,
        slots: TurnSlots,
        handovers: Handovers,
    ) -> None:
        self._store = store
        self._leases = leases
        self._transitions = transitions
        self._runner = runner
        self._lease = lease
        self._slots = slots
        self._handovers = handovers

    def loops(self) -> dict[str, Loop]:
        """Return the background loops by name.

        Renewal has a loop of its own, so that slow recovery cannot delay it.
        """
        return {"turn_leases": self._renew_leases, "turn_recovery": self._recover_orphans}

    async def _renew_leases(self) -> None:
        while True:
            with _retried("lease_renewal"):
                await self._renew()
            await asyncio.sleep(self._lease.renewal_s)

    async def _renew(self) -> None:
        turns = [(running.key, running.turn_id) for running in self._runner.running()]
        if turns:
            renewed = await self._leases.renew(turns, self._lease.holder, self._lease.stored_s)
            for _, turn_id in turns:
                if turn_id not in renewed:
                    self._runner.cancel(turn_id)

    async def _recover_orphans(self) -> None:
        while True:
            if self._slots.is_open:
                with _retried("turn_recovery"):
                    await self._recover_round()
            # When a slot becomes free, recover the turn that has waited longest.
            await self._slots.wait_for_room(self._lease.look_s)

    async def _recover_round(self) -> None:
        room = self._slots.room
        running = [running.turn_id for running in self._runner.running()]
        found = await self._leases.orphans(
            self._lease.holder, running, ORPHANS_A_ROUND, include_queued=room > 0
        )
        orphans = iter(found)

        async def recover_each() -> None:
            for orphan in orphans:
                await self._recover(orphan)

        async with asyncio.TaskGroup() as group:
            # Use no more tasks than free slots, so that the turns that have waited longest get the
            # slots.
            for _ in range(min(room or RECOVERIES_AT_ONCE, RECOVERIES_AT_ONCE)):
                group.create_task(recover_each())

    async def _recover(self, orphan: OrphanedTurn) -> None:
        must_run = orphan.running_turn is None or orphan.is_left
        if must_run and not self._slots.room:
            return
        try:
            with _retried("turn_recovery"), suppress(SessionMissing):
                async with (
                    asyncio.timeout(RECOVERY_TIMEOUT_S),
                    self._runner.change(
                        orphan.key, orphan.project_id, orphan.session_id
                    ) as changes,
                ):
                    await self._recover_locked(changes, orphan)
        except Exception:
            # A recovery that fails in every round must not keep the loop from the other turns.
            log.exception("turn_recovery_failed", session_id=orphan.session_id)

    async def _recover_locked(self, changes: TurnChanges, orphan: OrphanedTurn) -> None:
        """End a turn whose process is gone, and start the next one in the queue."""
        turn_id = (await self._store.open(changes.change)).running_turn
        if turn_id != orphan.running_turn:
            return
        if turn_id:
            if self._runner.runs(turn_id):
                return
            if orphan.is_mine:
                await self._transitions.adopt(changes, turn_id)
                return
            if await self._handovers.take(changes, turn_id):
                return
            if not await self._leases.is_orphaned(changes.change, turn_id):
                return
            fault = Fault(
                "TURN_LOST", "the server that ran the turn is gone; what was sent is kept"
            )
            await self._transitions.fail(changes, turn_id, fault)
        await self._transitions.start_next(changes)


@contextmanager
def _retried(loop: str) -> Iterator[None]:
    """Suppress transient errors: the next round tries again."""
    try:
        yield
    except (DatabaseUnavailable, PoolExhausted, Contention, TimeoutError) as e:
        log.debug("turn_leases_retrying", loop=loop, error=str(e))
