"""Messages that steer a tool loop wait for the results of its calls, up to a limit."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from sessiond.v1.message_pb2 import FORMAT_OPENAI, Message
from sessiond.v1.turn_pb2 import TURN_STATE_COMPLETED, TURN_STATE_QUEUED
from sessiond_server.settings import Settings

from ..support.model_server import ModelServer, Reply
from ..support.turns import Sent, send, sending
from ..support.wire import Wire
from .calls import IMMEDIATE, abort, connected, held, turn_of

CALLS = Reply(tool_calls=[("c1", "look", "{}"), ("c2", "look", "{}")])
HELLO = "Hello from the model server."


def result(call_id: str) -> Message:
    value = {"role": "tool", "tool_call_id": call_id, "content": f"result {call_id}"}
    return Message(format=FORMAT_OPENAI, json=json.dumps(value))


RESULTS = [result("c1"), result("c2")]


def sent_to(models: ModelServer) -> list[str]:
    """Return the content of the last request's messages; "calls" for an answer without text."""
    return [message["content"] or "calls" for message in models.requests[-1].body["messages"]]


async def steered(wire: Wire, models: ModelServer) -> tuple[Sent, Sent]:
    """Steer a turn whose answer calls tools. Return the Send of the ended turn, and the new one."""
    models.script(Reply(tool_calls=CALLS.tool_calls, after=1, then="hold"))
    first = await sending(wire, "one", "look")
    await held(models)
    steering = await sending(wire, "one", "quickly", mode=IMMEDIATE)
    assert steering.turn.turn_id == first.turn.turn_id
    models.release()
    assert (await first.end()).stop_reason == "tool_calls"
    assert first.types[-1] == "assistant.turn_end"  # no session.idle, because the other turn waits
    return first, steering


async def test_what_steers_a_turn_follows_the_results_of_its_calls(
    one: Wire, models: ModelServer
) -> None:
    _, steering = await steered(one, models)
    assert len(models.requests) == 1
    turn = await send(one, "one", messages=RESULTS)
    assert sent_to(models) == ["look", "calls", "result c1", "result c2", "quickly"]
    assert await steering.end() == turn
    assert [e.message.seq for e in steering.events if e.type == "user.message"][-1] == 5
    assert steering.types[-3:] == ["assistant.message", "assistant.turn_end", "session.idle"]
    assert len(models.requests) == 2


async def test_what_is_sent_while_tools_run_follows_their_results(
    one: Wire, models: ModelServer
) -> None:
    models.script(CALLS)
    await send(one, "one", "look")
    steering = [await sending(one, "one", text, mode=IMMEDIATE) for text in ("quickly", "please")]
    assert [sent.turn.state for sent in steering] == [TURN_STATE_QUEUED] * 2
    turn = await send(one, "one", messages=RESULTS, mode=IMMEDIATE)
    assert sent_to(models) == ["look", "calls", "result c1", "result c2", "quickly", "please"]
    assert [await sent.end() for sent in steering] == [turn] * 2


async def test_a_send_that_does_not_steer_goes_on_without_results(
    one: Wire, models: ModelServer
) -> None:
    _, steering = await steered(one, models)
    turn = await send(one, "one", "never mind")
    none = "(There is no result.)"
    assert sent_to(models) == ["look", "calls", none, none, "quickly", "never mind"]
    assert await steering.end() == turn
    # The results arrive, but too late.
    await send(one, "one", messages=RESULTS)
    assert "result c2" in json.dumps(models.requests[-1].body)


@pytest.mark.parametrize("one_by_one", [False, True])
async def test_stored_results_wake_what_is_held(
    one: Wire, models: ModelServer, *, one_by_one: bool
) -> None:
    _, steering = await steered(one, models)
    await one.store("one", "a note")  # this is not a result
    for results in [[r] for r in RESULTS] if one_by_one else [RESULTS]:
        assert len(models.requests) == 1
        await one.store("one", *results)
    assert (await steering.end()).state == TURN_STATE_COMPLETED
    assert sent_to(models) == [*("look", "calls", "result c1", "result c2", "a note", "quickly")]
    assert len(models.requests) == 2


async def test_stored_results_wake_what_was_sent_while_tools_run(
    one: Wire, models: ModelServer
) -> None:
    models.script(CALLS)
    await send(one, "one", "look")
    steering = [await sending(one, "one", text, mode=IMMEDIATE) for text in ("quickly", "please")]
    await one.store("one", *RESULTS)
    ended = [await sent.end() for sent in steering]
    assert sent_to(models) == ["look", "calls", "result c1", "result c2", "quickly", "please"]
    assert ended[0] == ended[1]


async def test_without_a_caller_stored_results_are_followed_by_the_next_send(
    one: Wire, models: ModelServer
) -> None:
    _, steering = await steered(one, models)
    steering.call.cancel()
    await one.store("one", *RESULTS)
    await send(one, "one", mode=IMMEDIATE, prompt="now")
    # If the results are stored before the server notices the cancellation, the cancelled Send
    # continues with them, and the model answers HELLO.
    sent = [text for text in sent_to(models) if text != HELLO]
    assert sent == ["look", "calls", "result c1", "result c2", "quickly", "now"]


async def test_what_is_held_can_be_aborted(one: Wire, models: ModelServer) -> None:
    _, steering = await steered(one, models)
    assert await abort(one, include_queued=True) != []
    assert (await steering.error()).reason == "TURN_ABORTED"
    await send(one, "one", messages=RESULTS)
    assert "quickly" not in sent_to(models)


async def test_what_is_held_starts_on_its_own_when_its_time_is_over(
    settings: Settings, database_url: str, models: ModelServer, query: Callable[..., Any]
) -> None:
    async with connected(settings, database_url) as wire:
        await wire.create("one")
        _, steering = await steered(wire, models)
        turn_id = query("SELECT turn_id::text FROM turns WHERE held_until IS NOT NULL")[0][0]
        waiting = await sending(wire, "one", "later", mode=IMMEDIATE)
        assert waiting.turn.state == TURN_STATE_QUEUED
        query(
            "UPDATE turns SET held_until = now() - interval '1 second' WHERE turn_id = %s",
            [turn_id],
        )
        # A server that starts looks for turns that no server runs.
        async with connected(settings, database_url):
            turn = await steering.end()
        assert turn.turn_id == turn_id
        assert (await waiting.end()).turn_id == turn_id
        assert sent_to(models)[-2:] == ["quickly", "later"]
        assert (await turn_of(wire, turn_id)).state == TURN_STATE_COMPLETED


async def test_held_turns_are_no_work_for_servers_that_start(
    settings: Settings, database_url: str, models: ModelServer, looks: list[Any]
) -> None:
    async with connected(settings, database_url) as wire:
        await wire.create("one")
        _, steering = await steered(wire, models)
        looks.clear()
        async with connected(settings, database_url):
            pass
        assert not any(looks)
        steering.call.cancel()


async def test_a_send_that_steers_runs_at_once_when_no_call_is_open(
    one: Wire, models: ModelServer
) -> None:
    models.script(CALLS)
    await send(one, "one", "look")
    await send(one, "one", messages=RESULTS)
    assert (await send(one, "one", "more", mode=IMMEDIATE)).state == TURN_STATE_COMPLETED


@pytest.mark.parametrize("is_repeated", [False, True])
async def test_a_held_send_is_rejoined(one: Wire, models: ModelServer, is_repeated: bool) -> None:
    models.script(CALLS)
    await send(one, "one", "look")
    first = await sending(one, "one", "quickly", mode=IMMEDIATE, request_id="r")
    first.call.cancel()
    again = await sending(one, "one", "quickly", mode=IMMEDIATE, request_id="r")
    assert again.turn == first.turn
    turn = await send(one, "one", messages=RESULTS)
    assert await again.end() == turn
    if is_repeated:
        third = await sending(one, "one", "quickly", mode=IMMEDIATE, request_id="r")
        assert await third.end() == turn
    assert (await one.texts("one"))[-2:] == ["quickly", HELLO]
