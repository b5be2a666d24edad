"""Turns whose end or start cannot be written: the model is asked once, and they end as INTERNAL."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sessiond.v1 import conversation_service_pb2 as cs
from sessiond.v1.turn_pb2 import TURN_STATE_COMPLETED, TURN_STATE_FAILED, TURN_STATE_RUNNING, Turn
from sessiond_server.providers.settings import ProviderSettings
from sessiond_server.settings import Settings
from sessiond_server.turns.store import TurnStore

from ..support.model_server import ModelServer, Reply
from ..support.turns import send, sending
from ..support.waiting import until_async
from ..support.wire import Wire

HOLD = Reply("held back", after=1, then="hold")
# What PostgreSQL says where the role has no right to insert, whoever the tests' role is.
NO_INSERTS = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'permission denied for table messages' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON messages FOR EACH STATEMENT EXECUTE FUNCTION refuse()"""


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def settings(settings: Settings, models: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr("sessiond_server.turns.runner.LONGEST_RETRY_S", 0.1)
    fake = ProviderSettings(
        type="openai", base_url=models.openai_url, models=("fake-*",), retries=0
    )
    # Orphans are looked for every 0.2 seconds.
    return settings.model_copy(
        update={"providers": {"fake": fake}, "default_model": "fake-1", "turn_lease_s": 0.6}
    )


@pytest.fixture
async def one(wire: Wire) -> Wire:
    """A server with a session "one"."""
    await wire.create("one")
    return wire


async def held(models: ModelServer) -> None:
    """Wait until the model was asked, and holds its answer back."""
    assert await asyncio.to_thread(models.wait_until_held)


async def turn_of(wire: Wire, turn_id: str) -> Turn:
    return await wire.conversations.GetTurn(cs.GetTurnRequest(session_id="one", turn_id=turn_id))


async def test_a_turn_whose_end_cannot_be_written_is_asked_once_and_ends_as_internal(
    one: Wire, models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = 0
    end = TurnStore.end

    async def failing(*args: Any) -> Any:
        nonlocal failures
        if failures < 6:
            failures += 1
            raise RuntimeError("none of the errors of the database")
        return await end(*args)

    orphans, looks = TurnStore.orphans, 0

    async def counted(*args: Any) -> Any:
        nonlocal looks
        looks += 1
        return await orphans(*args)

    monkeypatch.setattr(TurnStore, "end", failing)
    monkeypatch.setattr(TurnStore, "orphans", counted)
    sent = await sending(one, "one", "hi")
    assert (await sent.error()).reason == "INTERNAL"
    turn = await turn_of(one, sent.turn.turn_id)
    assert (failures, turn.state, turn.error.reason) == (6, TURN_STATE_FAILED, "INTERNAL")
    seen = looks
    await until_async(lambda: looks >= seen + 2, "orphaned turns were looked for again")
    assert len(models.requests) == 1
    assert (await send(one, "one", "again")).state == TURN_STATE_COMPLETED


async def test_an_answer_that_cannot_be_inserted_ends_the_turn_as_internal(
    one: Wire, models: ModelServer, query: Callable[..., Any]
) -> None:
    models.script(HOLD)
    sent = await sending(one, "one", "hi")
    await held(models)
    query(NO_INSERTS)
    models.release()
    assert (await sent.error()).reason == "INTERNAL"
    assert len(models.requests) == 1


async def test_a_queued_turn_that_cannot_start_ends_as_internal_after_the_one_before_it(
    one: Wire, models: ModelServer, query: Callable[..., Any]
) -> None:
    models.script(HOLD)
    first, second = await sending(one, "one", "a"), await sending(one, "one", "b")
    await held(models)
    query("UPDATE turns SET prompt = '\\x00' WHERE turn_id = %s", [second.turn.turn_id])
    models.release()
    assert (await first.end()).state == TURN_STATE_COMPLETED
    assert (await second.error()).reason == "INTERNAL"
    assert (await send(one, "one", "c")).state == TURN_STATE_COMPLETED
    assert len(models.requests) == 2
    assert await one.texts("one") == ["a", "held back", "c", models.default.text]


async def test_a_turn_that_cannot_start_for_want_of_a_right_is_never_asked(
    one: Wire, models: ModelServer, query: Callable[..., Any]
) -> None:
    query(NO_INSERTS)
    sent = await sending(one, "one", "hi")
    assert (await sent.error()).reason == "INTERNAL"
    query("DROP TRIGGER refuse ON messages")
    assert (await send(one, "one", "again")).state == TURN_STATE_COMPLETED
    assert len(models.requests) == 1


async def test_a_turn_that_nobody_can_end_is_not_asked_after_a_restart(
    one: Wire, models: ModelServer, monkeypatch: pytest.MonkeyPatch, query: Callable[..., Any]
) -> None:
    ends = 0

    async def failing(*args: Any) -> Any:
        nonlocal ends
        ends += 1
        raise RuntimeError("none of the errors of the database")

    monkeypatch.setattr(TurnStore, "end", failing)
    sent = await sending(one, "one", "hi")
    await until_async(lambda: ends >= 3, "its end was tried")
    # As after a restart: another holder, whose lease ran out, has it in the table.
    query("UPDATE turns SET holder = gen_random_uuid(), lease_until = now() - interval '1 second'")
    seen = ends
    await until_async(lambda: ends >= seen + 4, "its end was tried again")
    assert (await turn_of(one, sent.turn.turn_id)).state == TURN_STATE_RUNNING
    assert len(models.requests) == 1
