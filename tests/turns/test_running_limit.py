"""max_running_turns: a process at its limit leaves turns queued until a process has a slot."""

from typing import Any
from uuid import uuid4

import pytest

from sessiond.v1.turn_pb2 import TURN_STATE_COMPLETED, TURN_STATE_QUEUED
from sessiond_server.settings import Settings
from sessiond_server.turns.changes.transitions import TurnTransitions
from sessiond_server.turns.state import TurnChanges, TurnSlots

from ..support.model_server import ModelServer
from ..support.turns import send, sending
from ..support.waiting import until_async
from ..support.wire import Wire
from .calls import connected, newest, send_held, turn_of


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_running_turns": 1})


async def test_a_turn_beyond_the_limit_is_queued_until_another_one_ends(
    one: Wire, models: ModelServer
) -> None:
    first = await send_held(one, models)
    await one.create("two")
    second = await sending(one, "two", "b")
    assert (second.turn.state, len(models.requests)) == (TURN_STATE_QUEUED, 1)
    models.release()
    assert [(await sent.end()).state for sent in (first, second)] == [TURN_STATE_COMPLETED] * 2


async def test_a_free_slot_is_for_the_turn_that_has_waited_longest(
    one: Wire, models: ModelServer
) -> None:
    sents = [await send_held(one, models)]
    await one.create("two")
    for session_id, prompt in (("two", "second"), ("one", "third")):
        sents.append(await sending(one, session_id, prompt))
    models.release()
    for sent in sents:
        await sent.end()
    asked = [request.body["messages"][-1]["content"] for request in models.requests]
    assert asked == ["a", "second", "third"]


async def test_a_turn_that_fails_to_start_leaves_its_slot_to_the_next_one(
    one: Wire, models: ModelServer, query: Any
) -> None:
    first = await send_held(one, models)
    broken, third = await sending(one, "one", "b"), await sending(one, "one", "c")
    query("UPDATE turns SET prompt = '\\x00' WHERE turn_id = %s", [broken.turn.turn_id])
    models.release()
    await first.end()
    assert (await broken.error()).reason == "INTERNAL"
    assert (await third.end()).state == TURN_STATE_COMPLETED


async def test_another_process_starts_what_a_full_one_leaves_queued(
    one: Wire, models: ModelServer, settings: Settings, database_url: str
) -> None:
    await send_held(one, models)
    await one.create("two")
    second = await sending(one, "two", "b")
    async with connected(settings, database_url):
        assert (await second.end()).state == TURN_STATE_COMPLETED


async def test_a_full_process_leaves_queued_what_it_recovers(
    settings: Settings, database_url: str, models: ModelServer, looks: list[Any]
) -> None:
    quick = settings.model_copy(update={"turn_lease_s": 0.5})
    async with connected(quick, database_url) as wire:
        await wire.create("busy")
        await send_held(wire, models, "busy")
        async with connected(settings, database_url) as stopped:
            await stopped.create("one")
            await send_held(stopped, models)
            queued = await sending(stopped, "one", "b")
        seen = len(looks)
        await until_async(lambda: len(looks) >= seen + 3, "orphaned turns are looked for")
        assert (await turn_of(wire, queued.turn.turn_id)).state == TURN_STATE_QUEUED
        assert len(models.requests) == 2
        models.release()
        await newest(wire, TURN_STATE_COMPLETED)


async def test_a_slot_that_is_freed_before_a_send_commits_is_used(
    one: Wire, models: ModelServer, looks: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    await send_held(one, models)
    await one.create("two")
    start_next = TurnTransitions.start_next

    async def slow(transitions: TurnTransitions, changes: TurnChanges) -> None:
        """Start the next turn, but commit only after a check that cannot see the turn yet."""
        await start_next(transitions, changes)
        if changes.session_id == "two" and changes.is_full:
            seen = len(looks)
            models.release()
            await until_async(lambda: len(looks) > seen, "the free slot is noticed")

    monkeypatch.setattr(TurnTransitions, "start_next", slow)
    assert (await send(one, "two", "b")).state == TURN_STATE_COMPLETED


async def test_a_slot_that_is_freed_before_the_wait_ends_it() -> None:
    slots = TurnSlots(1, is_draining=lambda: False)
    first, second = uuid4(), uuid4()
    assert (slots.try_take(first), slots.try_take(second)) == (True, False)
    slots.release(first)
    await slots.wait_for_room(3600)
    assert slots.try_take(second)
