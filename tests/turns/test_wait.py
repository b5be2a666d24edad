"""GetTurn with wait."""

import asyncio

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from sessiond.v1 import conversation_service_pb2 as cs
from sessiond.v1.turn_pb2 import TURN_STATE_COMPLETED, TURN_STATE_RUNNING, Turn

from ..support.model_server import ModelServer
from ..support.wire import Wire, error_of
from .calls import send_held


async def get(wire: Wire, turn_id: str, wait_s: float) -> Turn:
    wait = Duration()
    wait.FromMilliseconds(int(wait_s * 1000))
    request = cs.GetTurnRequest(session_id="one", turn_id=turn_id, wait=wait)
    turn: Turn = await wire.conversations.GetTurn(request)
    return turn


async def test_it_answers_when_the_turn_ends(one: Wire, models: ModelServer) -> None:
    sent = await send_held(one, models)
    waiting = asyncio.ensure_future(get(one, sent.turn.turn_id, 30))
    assert (await get(one, sent.turn.turn_id, 0)).state == TURN_STATE_RUNNING
    assert not waiting.done()
    models.release()
    assert (await waiting).state == TURN_STATE_COMPLETED
    await sent.end()


async def test_it_answers_as_the_turn_stands_when_the_time_is_over(
    one: Wire, models: ModelServer
) -> None:
    sent = await send_held(one, models)
    assert (await get(one, sent.turn.turn_id, 0.05)).state == TURN_STATE_RUNNING
    models.release()
    await sent.end()
    assert (await get(one, sent.turn.turn_id, 30)).state == TURN_STATE_COMPLETED


@pytest.mark.parametrize("wait_s", [-1, 30.001])
async def test_a_wait_out_of_range_is_refused(
    one: Wire, models: ModelServer, wait_s: float
) -> None:
    error = await error_of(get(one, "01890000-0000-7000-8000-000000000000", wait_s))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(error.fields) == ["wait"]
