"""Turns and several servers of one database."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from sessiond.v1.turn_pb2 import (
    TURN_STATE_COMPLETED,
)
from sessiond_server.server import Running, drain
from sessiond_server.settings import Settings
from sessiond_server.watch.store import APPLICATION_NAME

from ..support.model_server import ModelServer, Reply
from ..support.turns import send, sending
from ..support.wire import Wire
from .calls import HOLD, abort, connected, held, send_held


async def test_a_turn_is_rejoined_at_another_server(
    one: Wire, other: Wire, models: ModelServer
) -> None:
    await send_held(one, models, "one", "hi", request_id="r")
    joined = await sending(other, "one", "hi", request_id="r")
    waiting = await sending(other, "one", "ho")
    models.release()
    turn = await joined.end()
    assert turn.last_seq == 2
    # Deltas whose notifications arrive after the message are left out.
    assert joined.delta_text.strip() in ("", "back", "held back")
    assert joined.types[-2:] == ["assistant.message", "assistant.turn_end"]
    assert (await waiting.end()).last_seq == 4


async def test_a_turn_is_aborted_at_another_server(
    one: Wire, other: Wire, models: ModelServer
) -> None:
    models.script(HOLD)
    sent, waiting = await sending(one, "one", "a"), await sending(one, "one", "b")
    await held(models)
    assert await abort(other) == [sent.turn.turn_id]
    assert (await sent.error()).reason == "TURN_ABORTED"
    assert await asyncio.to_thread(models.wait_until_left)
    assert (await waiting.end()).state == TURN_STATE_COMPLETED
    assert len(await one.read("one")) == 3


async def test_a_server_that_only_slept_cannot_write(
    one: Wire,
    settings: Settings,
    database_url: str,
    models: ModelServer,
    query: Callable[..., Any],
) -> None:
    models.script(Reply("too late", after=1, then="hold"), Reply("in time"))
    slept = await sending(one, "one", "a")
    await held(models)
    waiting = await sending(one, "one", "b")
    query("UPDATE turns SET lease_until = now() - interval '1 second' WHERE state = 2")
    # The first server does not notice: it receives no notifications, and renews its lease late.
    query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = %s",
        [APPLICATION_NAME],
    )
    async with connected(settings, database_url) as wire:
        turn = await waiting.end()
        assert (turn.state, turn.first_seq) == (TURN_STATE_COMPLETED, 2)
        models.release()
        error = await slept.error()
        assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "TURN_LOST")
        assert await wire.texts("one") == ["a", "b", "in time"]
        await send(wire, "one", "c")
    assert "too late" not in await one.texts("one")


async def test_a_draining_server_leaves_queued_turns_to_the_others(
    one: Wire, server: Running, settings: Settings, database_url: str, models: ModelServer
) -> None:
    running = await send_held(one, models, request_id="r")
    waiting = await sending(one, "one", "b", request_id="s")
    draining = asyncio.ensure_future(drain(server, delay_s=0, timeout_s=60))
    assert (await running.error()).reason == (await waiting.error()).reason == "SERVER_DRAINING"
    quick = settings.model_copy(update={"turn_lease_s": 0.5})
    async with connected(quick, database_url) as other:
        joined = [
            await sending(other, "one", prompt, request_id=request_id)
            for prompt, request_id in (("a", "r"), ("b", "s"))
        ]
        models.release()
        await draining
        assert [(await sent.end()).last_seq for sent in joined] == [2, 4]
