"""Recovery of orphaned turns: its order, its concurrency, and its effect on other work."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from sessiond.v1.turn_pb2 import TURN_STATE_FAILED
from sessiond_server.server import Running
from sessiond_server.settings import Settings
from sessiond_server.turns import leases
from sessiond_server.turns.store.leases import TurnLeaseStore

from ..support.model_server import ModelServer
from ..support.waiting import until_async
from ..support.wire import Wire
from .calls import connected, send_held

Query = Callable[..., list[tuple[Any, ...]]]

LOST = """
UPDATE turns SET holder = gen_random_uuid(), lease_until = now() - %s * interval '1 second'
WHERE key = (SELECT key FROM sessions WHERE session_id = %s)"""
FAILED = f"""
SELECT session_id FROM turns JOIN sessions USING (key, log)
WHERE turns.state = {TURN_STATE_FAILED} ORDER BY turns.ended_at"""


@pytest.fixture
async def lose(
    wire: Wire, models: ModelServer, query: Query, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Create sessions with running turns of a lost process. The first turn is the oldest.

    The server that began the turns recovers none of them, or it would compete with the tested one.
    """
    orphans = TurnLeaseStore.orphans

    async def lose(*names: str) -> None:
        for name in names:
            await wire.create(name)
            await send_held(wire, models, name)
        ((first_holder,),) = query("SELECT DISTINCT holder FROM turns")

        async def of_others(self: Any, holder: UUID, *args: Any, **options: Any) -> Any:
            return [] if holder == first_holder else await orphans(self, holder, *args, **options)

        monkeypatch.setattr(TurnLeaseStore, "orphans", of_others)
        for age_s, name in enumerate(reversed(names), 1):
            query(LOST, [age_s, name])

    return lose


async def test_the_turn_whose_lease_ran_out_first_is_first(
    server: Running, lose: Callable[..., Any]
) -> None:
    await lose("c", "a", "b")
    store = TurnLeaseStore(server.database)
    found = [await store.orphans(uuid4(), [], limit, include_queued=True) for limit in (2, 9)]
    assert [[orphan.session_id for orphan in orphans] for orphans in found] == [
        ["c", "a"],
        ["c", "a", "b"],
    ]


async def test_a_few_are_recovered_at_once(
    lose: Callable[..., Any],
    settings: Settings,
    database_url: str,
    query: Query,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [f"s{i}" for i in range(6)]
    await lose(*names)
    pairs, is_orphaned, under_way, most = asyncio.Barrier(2), TurnLeaseStore.is_orphaned, 0, 0

    async def in_pairs(*args: Any) -> bool:
        """Wait until two recoveries run at the same time. A single recovery never ends."""
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            await pairs.wait()
            return await is_orphaned(*args)
        finally:
            under_way -= 1

    monkeypatch.setattr(TurnLeaseStore, "is_orphaned", in_pairs)
    monkeypatch.setattr(leases, "RECOVERIES_AT_ONCE", 2)
    monkeypatch.setattr(leases, "RECOVERY_TIMEOUT_S", 60)
    async with connected(settings, database_url):
        await until_async(lambda: len(query(FAILED)) == 6, "all are ended")
    assert most == 2


async def test_sessions_that_others_hold_do_not_keep_it_from_later_ones(
    lose: Callable[..., Any],
    settings: Settings,
    database_url: str,
    query: Query,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await lose("locked", "free")
    monkeypatch.setattr(leases, "ORPHANS_A_ROUND", 1)
    with psycopg.connect(database_url) as blocker:
        blocker.execute("SELECT FROM sessions WHERE session_id = 'locked' FOR UPDATE")
        async with connected(settings, database_url):
            await until_async(lambda: query(FAILED) == [("free",)], "the free one is ended")
    quick = settings.model_copy(update={"turn_lease_s": 0.5})
    async with connected(quick, database_url):
        await until_async(lambda: len(query(FAILED)) == 2, "the locked one is ended too")


async def test_one_that_fails_does_not_keep_it_from_later_ones(
    lose: Callable[..., Any],
    settings: Settings,
    database_url: str,
    query: Query,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await lose("broken", "whole")
    is_orphaned, failures = TurnLeaseStore.is_orphaned, iter([RuntimeError("unexpected")])

    async def failing(*args: Any) -> bool:
        if failure := next(failures, None):
            raise failure
        return await is_orphaned(*args)

    monkeypatch.setattr(TurnLeaseStore, "is_orphaned", failing)
    monkeypatch.setattr(leases, "RECOVERIES_AT_ONCE", 1)
    async with connected(settings, database_url):
        await until_async(lambda: query(FAILED) == [("whole",)], "the whole one is ended")


async def test_a_slow_recovery_does_not_delay_the_renewal_of_leases(
    settings: Settings,
    database_url: str,
    models: ModelServer,
    query: Query,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recovering = asyncio.Event()

    async def slow(*args: Any, **options: Any) -> Any:
        recovering.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(TurnLeaseStore, "orphans", slow)
    quick = settings.model_copy(update={"turn_lease_s": 0.5})
    async with connected(quick, database_url) as wire:
        await recovering.wait()
        await wire.create("one")
        await send_held(wire, models)
        leases: set[tuple[Any, ...]] = set()

        def are_renewed() -> bool:
            leases.update(query("SELECT lease_until FROM turns"))
            return len(leases) >= 4

        await until_async(are_renewed, "the lease is renewed three times")
