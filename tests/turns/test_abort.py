"""Abort, and clients that disconnect."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from sessiond.v1 import conversation_service_pb2 as cs
from sessiond.v1.turn_pb2 import (
    TURN_STATE_ABORTED,
    TURN_STATE_COMPLETED,
    TURN_STATE_RUNNING,
)
from sessiond_server.db.pool import PooledConnection
from sessiond_server.server import Running
from sessiond_server.turns.store.starts import StartStore

from ..support.model_server import ModelServer
from ..support.turns import Sent, send, sending
from ..support.waiting import until_async
from ..support.wire import Wire, error_of
from .calls import HOLD, abort, held, newest, send_held, turn_of, turns_of


async def test_a_running_turn_is_aborted(one: Wire, models: ModelServer) -> None:
    sent = await send_held(one, models)
    assert await abort(one) == [sent.turn.turn_id]
    error = await sent.error()
    assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "TURN_ABORTED")
    assert (error.metadata["session_id"], error.metadata["turn_id"]) == (
        "one",
        sent.turn.turn_id,
    )
    assert sent.types[-2:] == ["assistant.turn_end", "session.idle"]
    assert sent.events[-2].data["state"] == "aborted"
    assert await asyncio.to_thread(models.wait_until_left)
    turn = await turn_of(one, sent.turn.turn_id)
    assert (turn.state, turn.error.reason, turn.last_seq) == (
        TURN_STATE_ABORTED,
        "TURN_ABORTED",
        0,
    )
    assert await one.texts("one") == ["a"]
    await send(one, "one", "b")
    assert len(await one.read("one")) == 3


async def test_a_queued_turn_is_aborted(one: Wire, models: ModelServer) -> None:
    first = await send_held(one, models)
    second, third = await sending(one, "one", "b"), await sending(one, "one", "c")
    assert await abort(one, turn_id=second.turn.turn_id) == [second.turn.turn_id]
    assert (await second.error()).reason == "TURN_ABORTED"
    models.release()
    await first.end()
    await third.end()
    assert (await one.texts("one"))[2] == "c"


async def test_include_queued_aborts_all_turns(one: Wire, models: ModelServer) -> None:
    models.script(HOLD)
    sents = [await sending(one, "one", text) for text in "abc"]
    assert sorted(await abort(one, include_queued=True)) == sorted(
        sent.turn.turn_id for sent in sents
    )
    assert {(await sent.error()).reason for sent in sents} == {"TURN_ABORTED"}
    assert await one.texts("one") == ["a"]


async def test_an_abort_of_nothing_changes_nothing(one: Wire) -> None:
    assert await abort(one) == []
    turn = await send(one, "one", "a")
    assert await abort(one, turn_id=turn.turn_id) == await abort(one, include_queued=True) == []
    assert await turn_of(one, turn.turn_id) == turn


async def test_a_repeated_abort_ends_no_other_turn(one: Wire, models: ModelServer) -> None:
    models.script(HOLD, HOLD)
    first = await sending(one, "one", "a")
    await held(models)
    second = await sending(one, "one", "b")
    assert await abort(one, request_id="r") == [first.turn.turn_id]
    await held(models)
    assert await abort(one, request_id="r") == [first.turn.turn_id]
    assert (await turn_of(one, second.turn.turn_id)).state == TURN_STATE_RUNNING
    error = await error_of(
        one.conversations.Abort(
            cs.AbortRequest(session_id="one", include_queued=True, request_id="r")
        )
    )
    assert error.reason == "REQUEST_ID_REUSED"


async def test_unknown_and_malformed_turn_ids_are_refused(one: Wire) -> None:
    unknown = "01a1fdd5-3184-795a-b9ea-f0446f57ac47"
    for made in (
        one.conversations.Abort(cs.AbortRequest(session_id="one", turn_id=unknown)),
        one.conversations.GetTurn(cs.GetTurnRequest(session_id="one", turn_id=unknown)),
    ):
        error = await error_of(made)
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "TURN_NOT_FOUND")
        assert (error.metadata["session_id"], error.metadata["turn_id"]) == ("one", unknown)
    for request in (
        cs.AbortRequest(session_id="one", turn_id="x"),
        cs.AbortRequest(session_id="one", turn_id=unknown, include_queued=True),
    ):
        assert (await error_of(one.conversations.Abort(request))).reason == "INVALID_FIELD"
    for turn_id in ("", "x"):
        error = await error_of(
            one.conversations.GetTurn(cs.GetTurnRequest(session_id="one", turn_id=turn_id))
        )
        assert list(error.fields) == ["turn_id"]


async def test_abort_on_disconnect_aborts_the_turn(one: Wire, models: ModelServer) -> None:
    sent = await send_held(one, models, "one", "a", abort_on_disconnect=True)
    sent.call.cancel()
    assert await asyncio.to_thread(models.wait_until_left)
    await newest(one, TURN_STATE_ABORTED)


@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_a_disconnect_or_a_deadline_leaves_the_turn_running(
    one: Wire, models: ModelServer, is_cancelled: bool
) -> None:
    models.script(HOLD)
    fields = {"prompt": "a", "timeout_s": None if is_cancelled else 2.0}
    sent = Sent(one, "one", fields)
    await held(models)
    [turn] = await turns_of(one)
    if is_cancelled:
        sent.call.cancel()
    else:
        assert (await sent.error()).code == grpc.StatusCode.DEADLINE_EXCEEDED
    second = await sending(one, "one", "b")
    models.release()
    await second.end()
    assert (await turn_of(one, turn.turn_id)).state == TURN_STATE_COMPLETED


@pytest.fixture
def commit(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """Two events: one that each commit sets, and one that each commit then waits for."""
    committed, leave, resume = asyncio.Event(), PooledConnection.__aexit__, asyncio.Event()
    start = StartStore.start

    async def linger_directly(*args: Any) -> Any:
        started = await start(*args)
        committed.set()
        await resume.wait()
        return started

    async def linger(lease: PooledConnection, *exc: Any) -> None:
        in_transaction = sys._getframe(1).f_code.co_name == "transaction"
        await leave(lease, *exc)
        if in_transaction:
            committed.set()
            await resume.wait()

    resume.set()
    monkeypatch.setattr(PooledConnection, "__aexit__", linger)
    monkeypatch.setattr(StartStore, "start", linger_directly)
    yield committed, resume
    resume.set()


async def cancel_at_commit(
    call: grpc.aio.Call,
    commit: tuple[asyncio.Event, asyncio.Event],
    is_cancelled: Callable[[], bool],
) -> None:
    committed, resume = commit
    committed.clear()
    resume.clear()
    await committed.wait()
    call.cancel()
    await until_async(is_cancelled, "the server has noticed")
    resume.set()


async def test_a_send_cancelled_at_its_commit_runs_its_turn(
    one: Wire, server: Running, commit: tuple[asyncio.Event, asyncio.Event]
) -> None:
    call = one.conversations.Send(cs.SendRequest(session_id="one", prompt="hi"))
    await cancel_at_commit(call, commit, lambda: server.admission.streams == 0)
    await newest(one, TURN_STATE_COMPLETED)


async def test_an_abort_cancelled_at_its_commit_starts_the_next_turn(
    one: Wire,
    server: Running,
    models: ModelServer,
    commit: tuple[asyncio.Event, asyncio.Event],
) -> None:
    await send_held(one, models, "one", "first")
    await sending(one, "one", "second")
    call = one.conversations.Abort(cs.AbortRequest(session_id="one"))
    await cancel_at_commit(call, commit, lambda: server.admission.calls == 0)
    await newest(one, TURN_STATE_COMPLETED)
