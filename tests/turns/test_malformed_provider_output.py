"""Output of providers that PostgreSQL, UTF-8 or protobuf cannot represent unchanged."""

import json
from typing import Any

import pytest

from sessiond.v1.turn_pb2 import (
    TURN_STATE_COMPLETED,
)

from ..support.model_server import ModelServer, Reply, fails
from ..support.turns import send, sending
from ..support.wire import Wire


def chunk(**choice: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, **choice}]}


@pytest.mark.parametrize("word", ["st\0op", "\ud83d", 7, {"a": 1}, "x" * 10_000])
async def test_odd_stop_reasons_and_model_names_are_made_printable(
    one: Wire, models: ModelServer, word: Any
) -> None:
    models.script(
        Reply(
            events=[
                {"model": word, **chunk(delta={"content": "x"})},
                chunk(delta={}, finish_reason=word),
            ]
        )
    )
    turn = await send(one, "one", "hi")
    assert (turn.state, turn.last_seq) == (TURN_STATE_COMPLETED, 2)
    assert len(turn.stop_reason) <= 256


async def test_a_surrogate_pair_that_is_split_between_deltas_is_joined(
    one: Wire, models: ModelServer
) -> None:
    models.script(
        Reply(
            events=[
                chunk(delta={"content": "a\ud83d"}),
                chunk(delta={"content": "\ude00b\ud83d"}),
                chunk(delta={}, finish_reason="stop"),
            ]
        )
    )
    sent = await sending(one, "one", "hi")
    await sent.end()
    assert sent.delta_text == "a\U0001f600b"
    assert json.loads((await one.read("one"))[1].json)["content"] == "a\U0001f600b\ud83d"
    # The history then contains a lone surrogate.
    assert (await send(one, "one", "again")).state == TURN_STATE_COMPLETED
    assert (await send(one, "one", "again", model="echo")).state == TURN_STATE_COMPLETED


@pytest.mark.parametrize("calls", ["x", {"a": 1}, [1]])
async def test_malformed_tool_calls_fail_the_turn(
    one: Wire, models: ModelServer, calls: Any
) -> None:
    models.script(
        Reply(
            events=[
                chunk(delta={"tool_calls": calls}),
                chunk(delta={}, finish_reason="tool_calls"),
            ]
        )
    )
    assert (await (await sending(one, "one", "hi")).error()).reason == "MODEL_ANSWER_INVALID"


@pytest.mark.parametrize("message", ["\ud83d half", "with \0"])
async def test_odd_error_texts_and_retry_delays_are_made_storable(
    one: Wire, models: ModelServer, message: str
) -> None:
    models.script(
        fails(400, message),
        fails(429, headers={"retry-after-ms": "inf"}),
        fails(429, headers={"retry-after": "9" * 40}),
    )
    assert (await (await sending(one, "one", "hi")).error()).reason == "MODEL_REQUEST_REJECTED"
    assert (await (await sending(one, "one", "hi")).error()).retry_s is None
    assert (await (await sending(one, "one", "hi")).error()).retry_s == 30 * 86_400


async def test_an_answer_that_looks_like_an_asset_is_stored(one: Wire, models: ModelServer) -> None:
    models.script(Reply("sessiond-asset:" + "0" * 64))
    assert (await send(one, "one", "hi")).state == TURN_STATE_COMPLETED


async def test_a_message_of_the_largest_size_is_streamed(one: Wire) -> None:
    sent = await sending(
        one, "one", "x" * (2**24 - 100), options={"echo_text": "short"}, model="echo"
    )
    await sent.end()
    assert sent.types[0] == "user.message"
