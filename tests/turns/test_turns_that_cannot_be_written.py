"""Turns that cannot be written call the model once, and end with INTERNAL."""

from collections.abc import Callable
from typing import Any

import pytest

from sessiond.v1.turn_pb2 import (
    TURN_STATE_ABORTED,
    TURN_STATE_COMPLETED,
    TURN_STATE_FAILED,
    TURN_STATE_RUNNING,
)
from sessiond_server.settings import Settings
from sessiond_server.turns.store.ends import EndStore
from sessiond_server.turns.store.turns import TurnStore

from ..support.model_server import ModelServer, Reply
from ..support.turns import send, sending
from ..support.waiting import until_async
from ..support.wire import Wire
from .calls import abort, send_held, turn_of

# A trigger that raises the error of a role without the right to insert. A real role would not do,
# because the tests may run as a superuser, who has every right.
NO_INSERTS = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'permission denied for table messages' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON messages FOR EACH STATEMENT EXECUTE FUNCTION refuse()"""


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with a check for orphaned turns every 0.2 seconds."""
    monkeypatch.setattr("sessiond_server.turns.runner.LONGEST_RETRY_S", 0.1)
    return settings.model_copy(update={"turn_lease_s": 0.6})


async def test_a_turn_whose_end_cannot_be_written_calls_the_model_once_and_ends_as_internal(
    one: Wire, models: ModelServer, looks: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = 0

    def failing(end: Any) -> Any:
        async def fail(*args: Any, **options: Any) -> Any:
            nonlocal failures
            if failures < 6:
                failures += 1
                raise RuntimeError("none of the errors of the database")
            return await end(*args, **options)

        return fail

    for store in (TurnStore, EndStore):
        monkeypatch.setattr(store, "end", failing(store.end))
    sent = await sending(one, "one", "hi")
    assert (await sent.error()).reason == "INTERNAL"
    turn = await turn_of(one, sent.turn.turn_id)
    assert (failures, turn.state, turn.error.reason) == (6, TURN_STATE_FAILED, "INTERNAL")
    seen = len(looks)
    await until_async(lambda: len(looks) >= seen + 2, "orphaned turns are looked for again")
    assert len(models.requests) == 1
    assert (await send(one, "one", "again")).state == TURN_STATE_COMPLETED


async def test_an_answer_that_cannot_be_inserted_ends_the_turn_as_internal(
    one: Wire, models: ModelServer, query: Callable[..., Any]
) -> None:
    sent = await send_held(one, models)
    query(NO_INSERTS)
    models.release()
    assert (await sent.error()).reason == "INTERNAL"
    assert len(models.requests) == 1


async def test_an_abort_ends_the_turn_even_if_its_text_cannot_be_inserted(
    one: Wire, models: ModelServer, query: Callable[..., Any]
) -> None:
    models.script(Reply("one two", after=2, then="hold"))
    sent = await sending(one, "one", "hi")
    while not sent.delta_text:
        assert await sent.read()
    query(NO_INSERTS)
    await abort(one)
    assert (await sent.error()).reason == "TURN_ABORTED"
    turn = await turn_of(one, sent.turn.turn_id)
    assert (turn.state, turn.partial_seq) == (TURN_STATE_ABORTED, 0)
    query("DROP TRIGGER refuse ON messages")
    assert (await send(one, "one", "again")).state == TURN_STATE_COMPLETED


async def test_a_queued_turn_that_cannot_start_ends_as_internal_after_the_one_before_it(
    one: Wire, models: ModelServer, query: Callable[..., Any]
) -> None:
    first, second = await send_held(one, models), await sending(one, "one", "b")
    query("UPDATE turns SET prompt = '\\x00' WHERE turn_id = %s", [second.turn.turn_id])
    models.release()
    assert (await first.end()).state == TURN_STATE_COMPLETED
    assert (await second.error()).reason == "INTERNAL"
    assert (await send(one, "one", "c")).state == TURN_STATE_COMPLETED
    assert len(models.requests) == 2
    assert await one.texts("one") == ["a", "held back", "c", models.default.text]


async def test_a_turn_that_cannot_start_for_want_of_a_right_calls_no_model(
    one: Wire, models: ModelServer, query: Callable[..., Any]
) -> None:
    query(NO_INSERTS)
    sent = await sending(one, "one", "hi")
    assert (await sent.error()).reason == "INTERNAL"
    query("DROP TRIGGER refuse ON messages")
    assert (await send(one, "one", "again")).state == TURN_STATE_COMPLETED
    assert len(models.requests) == 1


async def test_a_turn_that_nobody_can_end_calls_no_model_after_a_restart(
    one: Wire, models: ModelServer, monkeypatch: pytest.MonkeyPatch, query: Callable[..., Any]
) -> None:
    ends = 0

    async def failing(*_: Any, **__: Any) -> Any:
        nonlocal ends
        ends += 1
        raise RuntimeError("none of the errors of the database")

    for store in (TurnStore, EndStore):
        monkeypatch.setattr(store, "end", failing)
    sent = await sending(one, "one", "hi")
    await until_async(lambda: ends >= 3, "its end is tried")
    # After a restart, the row has another holder, whose lease has expired.
    query("UPDATE turns SET holder = gen_random_uuid(), lease_until = now() - interval '1 second'")
    seen = ends
    await until_async(lambda: ends >= seen + 4, "its end is tried again")
    assert (await turn_of(one, sent.turn.turn_id)).state == TURN_STATE_RUNNING
    assert len(models.requests) == 1
