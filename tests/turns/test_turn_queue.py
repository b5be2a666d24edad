"""The queue of a session: one turn at a time, in order, and steering."""

import asyncio

from sessiond.v1 import conversation_service_pb2 as cs
from sessiond.v1.turn_pb2 import (
    TURN_STATE_COMPLETED,
    TURN_STATE_QUEUED,
    TURN_STATE_RUNNING,
)
from sessiond_server.core.limits import MAX_OPEN_TURNS

from ..support.model_server import ModelServer, Reply, fails
from ..support.turns import send, sending
from ..support.wire import Wire, error_of
from .calls import HOLD, IMMEDIATE, abort, held, send_held, turn_of, turns_of


async def test_turns_run_one_after_the_other(one: Wire, models: ModelServer) -> None:
    first = await send_held(one, models)
    others = [await sending(one, "one", text) for text in "bcd"]
    assert [sent.turn.state for sent in others] == [TURN_STATE_QUEUED] * 3
    assert await one.texts("one") == ["a"]
    assert [turn.state for turn in await turns_of(one)] == [TURN_STATE_QUEUED] * 3 + [
        TURN_STATE_RUNNING
    ]
    models.release()
    await first.end()
    assert first.types[-1] == "assistant.turn_end"  # no session.idle, because others wait
    for sent in others:
        await sent.end()
        assert sent.types[:2] == ["user.message", "assistant.turn_start"]
    assert others[-1].types[-1] == "session.idle"
    hello = "Hello from the model server."
    assert await one.texts("one") == ["a", "held back", "b", hello, "c", hello, "d", hello]


async def test_the_queue_continues_after_a_failed_turn(one: Wire, models: ModelServer) -> None:
    models.script(Reply(after=1, then="hold", status=200, text="x y"), fails(500))
    await sending(one, "one", "a")
    await held(models)
    second, third = await sending(one, "one", "b"), await sending(one, "one", "c")
    models.release()
    assert (await second.error()).reason == "MODEL_UNAVAILABLE"
    assert (await third.end()).state == TURN_STATE_COMPLETED


async def test_a_send_beyond_the_limit_of_open_turns_is_refused(
    one: Wire, models: ModelServer
) -> None:
    await send_held(one, models)
    await asyncio.gather(*[sending(one, "one", "b") for _ in range(MAX_OPEN_TURNS - 1)])
    error = await error_of(one.conversations.Send(cs.SendRequest(session_id="one", prompt="c")))
    assert (error.reason, error.metadata["what"], error.metadata["limit"]) == (
        "LIMIT_EXCEEDED",
        "turns",
        str(MAX_OPEN_TURNS),
    )
    assert len(await abort(one, include_queued=True)) == MAX_OPEN_TURNS


async def test_a_steering_message_becomes_a_part_of_the_running_turn(
    one: Wire, models: ModelServer
) -> None:
    models.script(HOLD, Reply("steered", usage=(20, 1)))
    first = await sending(one, "one", "a")
    await held(models)
    queued = await sending(one, "one", "q")
    steer = await sending(one, "one", "b", mode=IMMEDIATE, request_id="s")
    assert (steer.turn.turn_id, steer.turn.state) == (first.turn.turn_id, TURN_STATE_RUNNING)
    assert steer.message_id not in ("", first.message_id)
    models.release()
    turn = await first.end()
    assert await steer.end() == turn
    await queued.end()
    assert (await one.texts("one"))[:5] == ["a", "held back", "b", "steered", "q"]
    assert {message.turn.turn_id for message in (await one.read("one"))[:4]} == {turn.turn_id}
    assert [message.turn.message_id for message in await one.read("one")][2] == steer.message_id
    assert (turn.first_seq, turn.last_seq, turn.usage.input_tokens) == (1, 4, 32)
    assert [m["content"] for m in models.requests[1].body["messages"]] == [
        "a",
        "held back",
        "b",
    ]
    assert [event.seq for event in steer.events if event.seq][-2:] == [3, 4]
    again = await sending(one, "one", "b", mode=IMMEDIATE, request_id="s")
    assert (again.turn.turn_id, await again.end()) == (turn.turn_id, turn)
    assert len(await turns_of(one)) == 2


async def test_a_steering_message_of_an_aborted_turn_gets_a_turn_of_its_own(
    one: Wire, models: ModelServer
) -> None:
    models.script(
        Reply("x y", after=1, then="hold", error={"type": "server_error", "message": "no"}),
        Reply("its own"),
    )
    first = await sending(one, "one", "a")
    await held(models)
    queued = await sending(one, "one", "q")
    steer = await sending(one, "one", "b", mode=IMMEDIATE)
    await abort(one, turn_id=first.turn.turn_id)
    assert (await first.error()).reason == "TURN_ABORTED"
    turn = await steer.end()
    assert turn.turn_id not in (first.turn.turn_id, queued.turn.turn_id)
    await queued.end()
    assert (await one.texts("one"))[:4] == ["a", "b", "its own", "q"]


async def test_a_steering_message_without_a_running_turn_gets_its_own(one: Wire) -> None:
    assert (await send(one, "one", "a", mode=IMMEDIATE)).last_seq == 2


async def test_the_turn_of_a_steering_message_is_the_steered_one(
    one: Wire, models: ModelServer
) -> None:
    first = await send_held(one, models)
    await sending(one, "one", "b", mode=IMMEDIATE)
    [waiting] = await turns_of(one, state=TURN_STATE_QUEUED)
    models.release()
    turn = await first.end()
    assert await turn_of(one, waiting.turn_id) == turn
