"""Rewinds of sessions that run turns."""

import asyncio

import grpc

from sessiond.v1.turn_pb2 import TURN_STATE_ABORTED

from ..copies.helpers import Query
from ..support.model_server import ModelServer
from ..support.turns import Sent, send, sending
from ..support.waiting import PATIENCE_S
from ..support.wire import Wire, error_of
from ..turns.calls import send_held, turn_of


async def test_a_running_turn_refuses_a_rewind(one: Wire, models: ModelServer) -> None:
    sent = await send_held(one, models)
    error = await error_of(one.rewind("one", to_seq=0))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TURN_RUNNING")
    assert error.metadata["turn_id"] == sent.turn.turn_id
    models.release()
    await sent.end()
    assert (await one.rewind("one", drop_last=1)).last_seq == 1


async def test_a_running_turn_is_aborted_on_request(one: Wire, models: ModelServer) -> None:
    await one.store("one", "before")
    sent = await send_held(one, models)
    done = await one.rewind("one", "instead", to_seq=1, abort_turn=True)
    assert (done.last_seq, done.removed_count) == (2, 1)
    assert (await sent.error()).reason == "TURN_ABORTED"
    assert (await turn_of(one, sent.turn.turn_id)).state == TURN_STATE_ABORTED
    assert await one.texts("one") == ["before", "instead"]


async def test_queued_turns_go_on_from_the_cut(one: Wire, models: ModelServer) -> None:
    await one.store("one", "before")
    first = await send_held(one, models)
    second = await sending(one, "one", "b")
    await one.rewind("one", "instead", to_seq=1, abort_turn=True)
    assert (await first.error()).reason == "TURN_ABORTED"
    await second.end()
    texts = await one.texts("one")
    assert texts[:3] == ["before", "instead", "b"]
    assert len(texts) == 4
    given = [message["content"] for message in models.requests[-1].body["messages"]]
    assert given == ["before", "instead", "b"]


async def test_a_turn_after_a_rewind_is_given_what_is_left(one: Wire, models: ModelServer) -> None:
    await send(one, "one", "a")
    await send(one, "one", "b")
    await one.rewind("one", drop_last=2)
    await send(one, "one", "c")
    texts = await one.texts("one")
    assert [message["content"] for message in models.requests[-1].body["messages"]] == texts[:3]
    assert texts[2] == "c"


async def test_windows_begin_where_they_began(one: Wire, models: ModelServer, query: Query) -> None:
    """A window that begins before the cut is kept, so that requests keep their prefix."""
    await one.create("two", config={"context": {"max_messages": 4, "keep_fraction": 0.5}})
    for text in "abcd":
        await send(one, "two", text)
    [(mark, epoch)] = query("SELECT first_seq, epoch FROM context_marks")
    await one.rewind("two", drop_last=1)
    assert query("SELECT first_seq, epoch FROM context_marks") == [(mark, epoch + 1)]
    await one.rewind("two", to_seq=mark - 1)
    assert query("SELECT first_seq FROM context_marks") == []


async def test_an_expected_epoch_of_a_turn(one: Wire, models: ModelServer) -> None:
    await one.store("one", "a", "b")
    await one.rewind("one", drop_last=1)
    error = await Sent(one, "one", {"prompt": "c", "expected_epoch": 0}).error()
    assert (error.reason, error.metadata["epoch"]) == ("HISTORY_REWOUND", "1")
    await send(one, "one", "c", expected_epoch=1)


async def test_a_turn_whose_messages_are_gone_can_be_joined(
    one: Wire, other: Wire, models: ModelServer
) -> None:
    await one.store("one", *["before"] * 5)
    await send(one, "one", "a", request_id="r")
    aborted = await send_held(one, models, prompt="b", request_id="r2")
    await one.rewind("one", to_seq=1, abort_turn=True)
    assert (await aborted.error()).reason == "TURN_ABORTED"
    for wire in (one, other):
        async with asyncio.timeout(PATIENCE_S):
            joined = await sending(wire, "one", "a", request_id="r", after_seq=7)
            assert (await joined.end()).last_seq == 7
            joined = await sending(wire, "one", "b", request_id="r2")
            assert (await joined.error()).reason == "TURN_ABORTED"
