"""Send with a request_id: a repetition rejoins the first turn."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from sessiond.v1 import conversation_service_pb2 as cs
from sessiond.v1.turn_pb2 import TURN_STATE_COMPLETED
from sessiond_server.core.events import TURN_END, Event
from sessiond_server.core.states import TurnState
from sessiond_server.turns.streams import TurnFollower
from sessiond_server.watch.encoding import Chunk, chunk_of_event
from sessiond_server.watch.hub import WatchHub
from sessiond_server.watch.options import WatchOptions

from ..support.model_server import ModelServer, fails
from ..support.turns import send, sending
from ..support.wire import Wire, error_of
from .calls import IMMEDIATE, newest, send_held


async def test_a_repeated_send_rejoins_a_running_turn(one: Wire, models: ModelServer) -> None:
    first = await send_held(one, models, "one", "hi", request_id="r")
    first.call.cancel()
    second = await sending(one, "one", "hi", request_id="r")
    assert (second.turn, second.message_id) == (first.turn, first.message_id)
    models.release()
    turn = await second.end()
    assert second.types[0] == "user.message"
    assert second.types[-3:] == ["assistant.message", "assistant.turn_end", "session.idle"]
    third = await sending(one, "one", "hi", request_id="r", after_seq=1)
    assert (third.turn, await third.end()) == (turn, turn)
    assert third.types == ["assistant.message"]
    fourth = await sending(one, "one", "hi", request_id="r", after_seq=2)
    await fourth.end()
    assert (fourth.types, len(models.requests), await one.texts("one")) == (
        [],
        1,
        ["hi", "held back"],
    )


async def test_a_rejoined_turn_that_ends_before_it_is_watched_is_not_called_running(
    one: Wire, models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = WatchHub.chunks

    async def delayed(
        self: WatchHub, project_id: Any, options: WatchOptions, known: Any = None
    ) -> AsyncGenerator[Sequence[Chunk], None]:
        if options.after_seq is not None:
            models.release()
            await newest(one, TURN_STATE_COMPLETED)
        async for response in chunks(self, project_id, options, known):
            yield response

    await send_held(one, models, "one", "hi", request_id="r")
    monkeypatch.setattr(WatchHub, "chunks", delayed)
    second = await sending(one, "one", "hi", request_id="r")
    turn = await second.end()
    # A stream that sees the turn end also has the event "assistant.turn_end". This stream began
    # after the end, so it has only the messages of the turn.
    assert (second.turn, second.types) == (turn, ["user.message", "assistant.message"])


async def test_an_end_that_another_server_publishes_late_is_received() -> None:
    turn_id = uuid4()
    row: Any = SimpleNamespace(
        turn_id=turn_id, state=TurnState.RUNNING, end_seq=2, joined=None, steers=None
    )

    async def own(*_: Any) -> Any:
        return SimpleNamespace(**{**vars(row), "state": TurnState.COMPLETED})

    message = cs.WatchResponse()
    message.events.add(type="assistant.message", seq=2).message.turn.turn_id = str(turn_id)
    stored = Chunk(message.SerializeToString(), (1,), 2)
    end = chunk_of_event(Event(TURN_END, uuid4(), "one", uuid4(), 0, 2, {"turn_id": str(turn_id)}))

    async def rest() -> AsyncGenerator[Sequence[Chunk], None]:
        yield ()
        yield (end,)

    turns: Any = SimpleNamespace(own=own)
    runner: Any = SimpleNamespace(runs=lambda _: False, ended=lambda _: None)
    request: Any = SimpleNamespace(project_id=uuid4(), session_id="one")
    follower = TurnFollower(turns, runner, request, row)
    steps = [step async for step in follower.steps((stored,), rest(), 1)]
    types = [
        event.type for step in steps for event in cs.SendResponse.FromString(step.events).events
    ]
    assert types == ["assistant.message", "assistant.turn_end"]


async def test_a_repeated_send_rejoins_a_queued_turn(one: Wire, models: ModelServer) -> None:
    await send_held(one, models)
    first = await sending(one, "one", "b", request_id="r")
    second = await sending(one, "one", "b", request_id="r")
    assert second.turn == first.turn
    models.release()
    assert await first.end() == await second.end()
    assert first.types == second.types


async def test_a_repeated_send_of_a_failed_turn_fails_without_a_call(
    one: Wire, models: ModelServer
) -> None:
    models.script(fails(500))
    first = await (await sending(one, "one", "hi", request_id="r")).error()
    second = await (await sending(one, "one", "hi", request_id="r")).error()
    assert (first.reason, second.reason, len(models.requests)) == (
        "MODEL_UNAVAILABLE",
        "MODEL_UNAVAILABLE",
        1,
    )
    assert first.metadata["turn_id"] == second.metadata["turn_id"]


async def test_a_request_id_with_other_content_is_refused(one: Wire) -> None:
    await send(one, "one", "hi", request_id="r")
    for fields in (
        {"prompt": "ho"},
        {"prompt": "hi", "model": "fake-2"},
        {"prompt": "hi", "mode": IMMEDIATE},
    ):
        error = await error_of(
            one.conversations.Send(cs.SendRequest(session_id="one", request_id="r", **fields))
        )
        assert (error.reason, list(error.fields)) == ("REQUEST_ID_REUSED", ["request_id"])


async def test_concurrent_repetitions_are_one_turn(one: Wire, models: ModelServer) -> None:
    ends = await asyncio.gather(*[send(one, "one", "hi", request_id="r") for _ in range(20)])
    assert len({turn.turn_id for turn in ends}) == len(models.requests) == 1
    assert len(await one.read("one")) == 2


async def test_a_send_is_repeated_after_the_session_was_destroyed(one: Wire) -> None:
    turn = await send(one, "one", "hi", request_id="r")
    await one.destroy("one")
    assert await send(one, "one", "hi", request_id="r") == turn
