"""Turns while the database fails: lost acknowledgements, and a history that cannot be read."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sessiond.v1 import conversation_service_pb2 as cs
from sessiond.v1.turn_pb2 import (
    TURN_STATE_COMPLETED,
)
from sessiond_server.db.pool import Contention, DatabaseUnavailable, PoolExhausted
from sessiond_server.messages.store.history import HistoryStore
from sessiond_server.server import Running
from sessiond_server.settings import Settings
from sessiond_server.turns.requests import context
from sessiond_server.turns.store.ends import EndStore
from sessiond_server.turns.store.starts import StartStore

from ..support.model_server import ModelServer, Reply
from ..support.turns import send, sending
from ..support.wire import Wire, error_of
from .calls import HOLD, IMMEDIATE, abort, held, send_held


@pytest.fixture
def lose(server: Running, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that loses the acknowledgement of the next commit."""
    transaction = server.database.transaction
    losing = asyncio.Event()

    @asynccontextmanager
    async def lossy() -> AsyncIterator[Any]:
        async with transaction() as connection:
            yield connection
        if losing.is_set():
            losing.clear()
            raise DatabaseUnavailable("lost")

    monkeypatch.setattr(server.database, "transaction", lossy)
    for store, name in ((StartStore, "start"), (EndStore, "end")):
        direct = getattr(store, name)

        async def lossy_direct(*args: Any, _direct: Any = direct, **options: Any) -> Any:
            if (stored := await _direct(*args, **options)) and losing.is_set():
                losing.clear()
                raise DatabaseUnavailable("lost")
            return stored

        monkeypatch.setattr(store, name, lossy_direct)
    return losing.set


@pytest.fixture
def settings(settings: Settings) -> Settings:
    # A turn whose start was not acknowledged is adopted at the next check for orphaned turns.
    return settings.model_copy(update={"turn_lease_s": 1.5})


async def test_a_lost_acknowledgement_of_an_answer_with_a_steering_message(
    one: Wire, models: ModelServer, lose: Callable[[], None]
) -> None:
    models.script(HOLD, Reply("steered"))
    first = await sending(one, "one", "a")
    await held(models)
    steer = await sending(one, "one", "b", mode=IMMEDIATE)
    lose()
    models.release()
    turn = await first.end()
    assert await steer.end() == turn
    assert await one.texts("one") == ["a", "held back", "b", "steered"]
    assert turn.usage.input_tokens == 24
    assert len(models.requests) == 2


async def test_a_lost_acknowledgement_of_the_end_of_an_only_turn(
    one: Wire, models: ModelServer, lose: Callable[[], None]
) -> None:
    sent = await send_held(one, models)
    lose()
    models.release()
    turn = await sent.end()
    assert (turn.state, turn.last_seq) == (TURN_STATE_COMPLETED, 2)
    assert sent.types[-3:] == ["assistant.message", "assistant.turn_end", "session.idle"]
    assert await one.texts("one") == ["a", "held back"]
    assert len(models.requests) == 1


async def test_a_lost_acknowledgement_of_a_turns_end(
    one: Wire, models: ModelServer, lose: Callable[[], None]
) -> None:
    first = await send_held(one, models)
    others = [await sending(one, "one", text) for text in "bc"]
    lose()
    models.release()
    assert [(await sent.end()).state for sent in (first, *others)] == [TURN_STATE_COMPLETED] * 3
    assert first.types[-2:] == ["assistant.message", "assistant.turn_end"]
    assert (await one.texts("one"))[::2] == ["a", "b", "c"]
    assert len(models.requests) == 3


async def test_a_lost_acknowledgement_of_a_send(one: Wire, lose: Callable[[], None]) -> None:
    lose()
    error = await error_of(
        one.conversations.Send(cs.SendRequest(session_id="one", prompt="hi", request_id="r"))
    )
    assert error.reason == "DATABASE_UNAVAILABLE"
    assert (await send(one, "one", "hi", request_id="r")).state == TURN_STATE_COMPLETED
    assert len(await one.read("one")) == 2


async def test_a_lost_acknowledgement_of_an_abort(
    one: Wire, models: ModelServer, lose: Callable[[], None]
) -> None:
    models.script(HOLD)
    first, second = await sending(one, "one", "a"), await sending(one, "one", "b")
    await held(models)
    lose()
    error = await error_of(
        one.conversations.Abort(cs.AbortRequest(session_id="one", request_id="r"))
    )
    assert error.reason == "DATABASE_UNAVAILABLE"
    assert await abort(one, request_id="r") == [first.turn.turn_id]
    assert (await second.end()).state == TURN_STATE_COMPLETED


async def test_a_turn_waits_for_the_database_before_the_model_is_called(
    one: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = HistoryStore.page
    failures = iter((DatabaseUnavailable("away"), PoolExhausted("busy"), Contention("locked")))

    async def failing(self: HistoryStore, *args: Any) -> Any:
        caller = sys._getframe(1).f_globals["__name__"]
        if caller == context.__name__ and (failure := next(failures, None)):
            raise failure
        return await page(self, *args)

    monkeypatch.setattr(HistoryStore, "page", failing)
    assert (await send(one, "one", "hi")).state == TURN_STATE_COMPLETED
    assert next(failures, None) is None
