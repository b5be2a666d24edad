"""Turns that outlive their server: another server, or the restarted one, continues them."""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from sessiond.v1.turn_pb2 import TURN_STATE_COMPLETED, TURN_STATE_RUNNING
from sessiond_server.settings import Settings
from sessiond_server.turns.leases import RECOVERY_TIMEOUT_S
from sessiond_server.turns.state import TurnLease

from ..support.model_server import ModelServer, Reply
from ..support.turns import Sent, send, sending
from ..support.wire import Wire
from .calls import connected, held, send_held, turn_of


async def rejoined(wire: Wire, prompt: str = "hi") -> Sent:
    return await sending(wire, "one", prompt, request_id="r")


@pytest.mark.parametrize("keep", [True, False])
async def test_a_turn_goes_on_at_another_server_after_the_text_so_far(
    settings: Settings, database_url: str, models: ModelServer, keep: bool
) -> None:
    models.script(Reply("one two three", after=2, then="hold"), Reply("three again"))
    quick = settings.model_copy(update={"turn_lease_s": 0.5})
    async with connected(quick, database_url) as other:
        async with connected(settings, database_url) as first:
            await first.create("one")
            sent = await sending(first, "one", "hi", request_id="r", keep_partial=keep)
            await held(models)
            joined = await sending(other, "one", "hi", request_id="r", keep_partial=keep)
            await joined.until("assistant.message_partial")
        turn = await joined.end()
        messages = await other.read("one")
    assert turn.turn_id == sent.turn.turn_id
    assert (turn.state, turn.last_seq, turn.partial_seq) == (TURN_STATE_COMPLETED, 3, 0)
    contents = [json.loads(message.json)["content"] for message in messages]
    assert contents == ["hi", "one ", "three again"]
    assert [message.incomplete for message in messages] == [False, True, False]
    assert {message.turn.turn_id for message in messages} == {turn.turn_id}
    assert (
        "assistant.turn_start"
        not in joined.types[joined.types.index("assistant.message_partial") :]
    )
    assert joined.types[-3:] == ["assistant.message", "assistant.turn_end", "session.idle"]
    assert "This answer was cut off" in json.dumps(models.requests[-1].body)


async def test_a_turn_goes_on_when_its_only_server_is_back(
    settings: Settings, database_url: str, models: ModelServer
) -> None:
    async with connected(settings, database_url) as wire:
        await wire.create("one")
        # The model has not written anything yet.
        models.script(Reply("first", after=0, then="hold"), Reply("second"), Reply("third"))
        sent = await sending(wire, "one", "hi", request_id="r")
        await held(models)
        waiting = await sending(wire, "one", "ho", request_id="s")
    async with connected(settings, database_url) as wire:
        turn = await (await rejoined(wire)).end()
        later = await (await sending(wire, "one", "ho", request_id="s")).end()
        assert (turn.turn_id, later.turn_id) == (sent.turn.turn_id, waiting.turn.turn_id)
        assert await wire.texts("one") == ["hi", "second", "ho", "third"]


async def test_the_time_of_a_turn_runs_on_while_nobody_runs_it(
    settings: Settings, database_url: str, models: ModelServer, query: Callable[..., Any]
) -> None:
    async with connected(settings, database_url) as wire:
        await wire.create("one")
        sent = await send_held(wire, models, prompt="hi", request_id="r")
        assert (await turn_of(wire, sent.turn.turn_id)).state == TURN_STATE_RUNNING
    query("UPDATE turns SET started_at = started_at - timeout_ms * interval '1 millisecond'")
    async with connected(settings, database_url) as wire:
        assert (await (await rejoined(wire)).error()).reason == "TURN_TIMED_OUT"
        await send(wire, "one", "next")


def test_a_dead_server_is_noticed_within_the_documented_time() -> None:
    lease = TurnLease(uuid4(), 15.0)
    assert lease.stored_s + lease.look_s + RECOVERY_TIMEOUT_S <= 15.0
    assert lease.renewal_s * 3 <= lease.stored_s
