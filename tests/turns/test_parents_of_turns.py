"""parent_seq of Send: a turn continues a given message, as a branch beside existing ones."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sessiond.v1 import conversation_service_pb2 as cs
from sessiond.v1.rewind_pb2 import RewindSessionRequest

from ..support.model_server import ModelServer, Reply
from ..support.turns import Sent, send, sending
from ..support.waiting import until_async
from ..support.wire import Wire, error_of, openai
from .calls import IMMEDIATE, abort, connected, send_held, turn_of
from .test_branches import child, texts
from .test_partial_answers import LOST, SAVED, TWO_WORDS

CONFIGS = ({}, {"context": {"max_messages": 3}})


async def parents(wire: Wire) -> list[int]:
    return [message.parent_seq for message in await wire.read("one")]


@pytest.mark.parametrize("config", CONFIGS, ids=["whole", "window"])
async def test_a_second_answer_is_a_branch_beside_the_first(
    wire: Wire, models: ModelServer, config: dict[str, Any]
) -> None:
    await wire.create("one", config=config)
    models.script(Reply("first"))
    await send(wire, "one", "a")
    models.script(Reply("second"))
    turn = await send(wire, "one", parent_seq=1)
    assert texts(models) == ["a"]
    assert (turn.parent_seq, turn.last_seq) == (1, 3)
    assert await parents(wire) == [0, 0, 1]
    # Both answers can be read, and the next turn continues the newer one.
    assert [m.seq for m in await wire.read("one", branch_of=2)] == [1, 2]
    assert [m.seq for m in await wire.read("one", branch_of=3)] == [1, 3]
    await send(wire, "one", "b")
    assert texts(models) == ["a", "second", "b"]


async def test_a_prompt_continues_the_message_that_is_named(one: Wire, models: ModelServer) -> None:
    await send(one, "one", "a")
    await send(one, "one", "b")
    await send(one, "one", "c", parent_seq=2)
    assert texts(models) == ["a", "Hello from the model server.", "c"]
    await send(one, "one", messages=[openai("d"), openai("e")], parent_seq=2)
    assert texts(models) == ["a", "Hello from the model server.", "d", "e"]
    assert await parents(one) == [0, 0, 0, 0, 2, 0, 2, 0, 0]


async def test_naming_the_newest_message_makes_no_branch(
    one: Wire, models: ModelServer, query: Callable[..., Any]
) -> None:
    await one.store("one", "a")
    await send(one, "one", parent_seq=1)
    await send(one, "one", "b", parent_seq=2)
    assert await parents(one) == [0, 0, 2, 0]
    assert query("SELECT is_branched FROM sessions") == [(False,)]


async def test_a_queued_turn_keeps_its_parent(one: Wire, models: ModelServer) -> None:
    await one.store("one", "a", openai("b", "assistant"), "c")
    first = await send_held(one, models, prompt="d")
    waiting = asyncio.create_task(send(one, "one", parent_seq=1))
    models.release()
    await first.end()
    await waiting
    assert texts(models) == ["a"]
    assert await parents(one) == [0, 0, 0, 0, 0, 1]


async def test_steering_a_branch_goes_on_after_its_answer(one: Wire, models: ModelServer) -> None:
    await one.store("one", "a", openai("b", "assistant"))
    first = await send_held(one, models, prompt="", parent_seq=1)
    steering = await sending(one, "one", "steer", mode=IMMEDIATE)
    models.release()
    await first.end()
    await steering.end()
    assert texts(models) == ["a", "held back", "steer"]
    assert await parents(one) == [0, 0, 1, 0, 0]


async def test_an_aborted_answer_stays_on_its_branch(one: Wire, models: ModelServer) -> None:
    await one.store("one", "a", openai("b", "assistant"), "c")
    models.script(Reply(**TWO_WORDS, then="hold"))
    sent = await sending(one, "one", parent_seq=1)
    await sent.until("assistant.message_delta")
    await abort(one)
    assert (await sent.error()).reason == "TURN_ABORTED"
    assert await parents(one) == [0, 0, 0, 1]


async def test_an_answer_whose_server_is_gone_stays_on_its_branch(
    settings: Any, database_url: str, models: ModelServer, query: Callable[..., Any]
) -> None:
    async with connected(settings, database_url) as wire:
        await wire.create("one")
        await wire.store("one", "a", openai("b", "assistant"), "c")
        models.script(Reply(**TWO_WORDS, then="hold"))
        sent = await sending(wire, "one", parent_seq=1)
        await until_async(lambda: query(SAVED) == [(b"one two ",)], "it is saved")
        query(LOST)
        # A server looks for lost turns when it starts.
        async with connected(settings, database_url) as other:
            await until_async(
                lambda: query("SELECT max(partial_seq) FROM turns") == [(4,)], "the text is kept"
            )
            turn = await turn_of(other, sent.turn.turn_id)
            assert (turn.error.reason, turn.partial_seq) == ("TURN_LOST", 4)
            assert await parents(other) == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"prompt": "x", "parent_seq": -1}, "negative"),
        ({"prompt": "x", "parent_seq": 1, "mode": IMMEDIATE}, "SEND_MODE_IMMEDIATE"),
        ({"messages": [child(1, "x")], "parent_seq": 1}, "messages[0].parent_seq"),
    ],
    ids=["negative", "steering", "two parents"],
)
async def test_a_parent_that_contradicts_the_request_is_refused(
    one: Wire, fields: dict[str, Any], problem: str
) -> None:
    await one.store("one", "a")
    error = await error_of(one.conversations.Send(cs.SendRequest(session_id="one", **fields)))
    assert (error.reason, list(error.fields)) == ("INVALID_FIELD", ["parent_seq"])
    assert problem in error.fields["parent_seq"]


@pytest.mark.parametrize("prompt", ["", "x"])
async def test_a_parent_that_does_not_exist_is_refused(one: Wire, prompt: str) -> None:
    await one.store("one", "a")
    request = cs.SendRequest(session_id="one", prompt=prompt, parent_seq=2)
    error = await error_of(one.conversations.Send(request))
    assert (error.reason, list(error.fields)) == ("PARENT_NOT_FOUND", ["parent_seq"])
    assert len(await one.read("one")) == 1


@pytest.mark.parametrize("prompt", ["", "x"])
async def test_a_queued_turn_whose_parent_is_rewound_fails(
    one: Wire, models: ModelServer, prompt: str
) -> None:
    await one.store("one", "a", openai("b", "assistant"), "c")
    first = await send_held(one, models, prompt="d")
    lost = await sending(one, "one", prompt, parent_seq=3)
    kept = await sending(one, "one", prompt, parent_seq=1)
    rewind = RewindSessionRequest(session_id="one", to_seq=2, abort_turn=True)
    rewind.messages.append(openai("another message 3"))
    await one.sessions.RewindSession(rewind)
    assert (await first.error()).reason == "TURN_ABORTED"
    assert (await lost.error()).reason == "PARENT_NOT_FOUND"
    await kept.end()
    assert texts(models) == ["a", prompt][: 2 if prompt else 1]


async def test_a_repetition_has_the_same_parent(one: Wire, models: ModelServer) -> None:
    await one.store("one", "a", openai("b", "assistant"))
    first = await send(one, "one", parent_seq=1, request_id="r")
    again = await send(one, "one", parent_seq=1, request_id="r")
    assert again.turn_id == first.turn_id
    sent = Sent(one, "one", {"parent_seq": 2, "request_id": "r"})
    assert (await sent.error()).reason == "REQUEST_ID_REUSED"
