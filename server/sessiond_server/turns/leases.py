"""Leases of turns: a server that runs a turn says now and then that it is there; the turns of one that does not are ended by the others."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import structlog

from sessiond_server.core.errors import Fault
from sessiond_server.core.supervision import Loop
from sessiond_server.db.pool import Contention, DatabaseUnavailable, PoolExhausted
from sessiond_server.sessions.store.lock import Change, SessionMissing
from sessiond_server.turns.errors import error_of
from sessiond_server.turns.runner import Lease, StartedTurn, TurnRunner
from sessiond_server.turns.store import FAILED, RUNNING, Ending, OrphanedTurn, TurnStore

RENEWALS_A_LEASE = 3
FORSAKEN_A_ROUND = 100
# So long a turn that others have to end may wait for its session's row.
RECOVERY_TIMEOUT_S = 2.0

log = structlog.get_logger(__name__)


class TurnLeases:
    """Those of this process's turns, and what others have left.

    Args:
        is_draining: once it says so, what others have left is left to others.
    """

    def __init__(
        self, store: TurnStore, runner: TurnRunner, lease: Lease, *, is_draining: Callable[[], bool]
    ) -> None:
        self._store = store
        self._runner = runner
        self._lease = lease
        self._is_draining = is_draining

    def loops(self) -> dict[str, Loop]:
        """Return the background loops by name."""
        return {"turn_leases": self._renew_leases, "turn_recovery": self._recover_orphans}

    async def _renew_leases(self) -> None:
        """Renew the leases of what runs here. Alone: nothing that takes long may hold it up."""
        while True:
            with _put_off("leases of turns put off"):
                await self._renew()
            await asyncio.sleep(self._lease.duration_s / RENEWALS_A_LEASE)

    async def _recover_orphans(self) -> None:
        """End what nobody runs any more, and see to what waits."""
        while True:
            with _put_off("forsaken turns put off"):
                if not self._is_draining():
                    mine = [turn_id for _, turn_id in self._runner.running()]
                    for forsaken in await self._store.orphans(
                        self._lease.holder, mine, FORSAKEN_A_ROUND
                    ):
                        with _put_off("a forsaken turn put off"):
                            async with asyncio.timeout(RECOVERY_TIMEOUT_S):
                                await self._recover(forsaken)
            await asyncio.sleep(self._lease.duration_s / RENEWALS_A_LEASE)

    async def _renew(self) -> None:
        turns = self._runner.running()
        if not turns:
            return
        renewed = await self._store.renew(turns, self._lease.holder, self._lease.duration_s)
        for _, turn_id in turns:
            if turn_id not in renewed:
                self._runner.cancel(turn_id)

    async def _held(
        self, change: Change, forsaken: OrphanedTurn, turn_id: UUID
    ) -> StartedTurn | None:
        """A turn that this process has started without hearing of it: the answer to the commit was lost."""
        held = await self._store.find(change, turn_id)
        if held is None or held.turn.state != RUNNING or held.holder != self._lease.holder:
            return None
        turn = held.turn
        log.info("turn taken on late", turn_id=str(turn_id))
        return StartedTurn(
            change.key,
            change.log,
            forsaken.project_id,
            forsaken.session_id,
            turn_id,
            turn.model,
            held.options,
            turn.timeout_ms,
            turn.end_seq,
            turn.end_seq or (await self._store.open(change)).last_seq,
        )

    async def _recover(self, forsaken: OrphanedTurn) -> None:
        """End a turn whose server is gone, and see to what waits."""
        try:
            async with self._runner.change(
                forsaken.key, forsaken.project_id, forsaken.session_id
            ) as (change, changes):
                turn_id = (await self._store.open(change)).running_turn
                if turn_id != forsaken.running_turn:
                    return
                if turn_id:
                    if self._runner.runs(turn_id):
                        return
                    if forsaken.is_mine:
                        changes.started = await self._held(change, forsaken, turn_id)
                        return
                    if not await self._store.is_orphaned(change, turn_id):
                        return
                    fault = Fault(
                        "TURN_LOST", "the server that ran the turn is gone; what was sent is kept"
                    )
                    error = error_of(fault, forsaken.session_id, turn_id)
                    await self._runner.end(change, turn_id, Ending(FAILED, error=error), changes)
                await self._runner.start_next(
                    change, forsaken.project_id, forsaken.session_id, changes
                )
        except SessionMissing:
            return


@contextmanager
def _put_off(what: str) -> Iterator[None]:
    """What fails is tried again in the next round."""
    try:
        yield
    except (DatabaseUnavailable, PoolExhausted, Contention, TimeoutError) as e:
        log.debug(what, error=str(e))
    except Exception:
        log.exception(what)
