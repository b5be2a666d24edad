"""Turns of locked sessions do not keep the turns of other sessions from starting or ending."""

import asyncio

import psycopg
import pytest

from sessiond.v1.turn_pb2 import TURN_STATE_COMPLETED, TURN_STATE_QUEUED
from sessiond_server.sessions.store import row_locks
from sessiond_server.settings import Settings

from ..support.model_server import ModelServer
from ..support.turns import send, sending
from ..support.waiting import PATIENCE_S, until_async, until_waiting
from ..support.wire import Wire
from .calls import send_held

HOLD = "SELECT FROM sessions WHERE session_id = 'one' FOR UPDATE"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with one place in each lane, and with statements that wait endlessly for locks."""
    return settings.model_copy(update={"pool_size": 4, "lock_timeout_s": 0})


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of sessions in each check that finds out whether sessions are still locked."""
    counts: list[int] = []
    free = row_locks.RowLockStore.free

    async def noted(self: row_locks.RowLockStore, keys: list[object]) -> object:
        counts.append(len(keys))
        return await free(self, keys)

    monkeypatch.setattr(row_locks.RowLockStore, "free", noted)
    return counts


async def test_a_send_to_a_locked_session_leaves_its_place_to_others(
    one: Wire, models: ModelServer, database_url: str, looks: list[int]
) -> None:
    await one.create("two")
    with psycopg.connect(database_url) as blocker:
        blocker.execute(HOLD)
        waiting = asyncio.create_task(send(one, "one", "hi"))
        await until_async(lambda: bool(looks), "the Send waits in memory")
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(3):
                assert (await send(one, "two", "hi")).state == TURN_STATE_COMPLETED
        first = await send_held(one, models, "two")
        second = await sending(one, "two", "b")
        assert second.turn.state == TURN_STATE_QUEUED
        assert not waiting.done()
        models.release()
        await first.end()
        await second.end()
    assert (await waiting).state == TURN_STATE_COMPLETED


async def test_the_end_of_a_turn_in_a_locked_session_leaves_its_place_to_others(
    one: Wire, models: ModelServer, database_url: str
) -> None:
    await one.create("two")
    first = await send_held(one, models)
    with psycopg.connect(database_url) as blocker:
        blocker.execute(HOLD)
        models.release()
        await until_waiting(database_url)
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(3):
                assert (await send(one, "two", "hi")).state == TURN_STATE_COMPLETED
    assert (await first.end()).state == TURN_STATE_COMPLETED
    assert await one.texts("one") == ["a", "held back"]
