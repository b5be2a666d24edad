"""Appends that change the state need one statement, and follow the rules of other appends."""

import asyncio
import json
from contextlib import AbstractAsyncContextManager
from typing import Any

import psycopg
import pytest

from sessiond.v1.message_pb2 import Message
from sessiond.v1.session_service_pb2 import ON_DUPLICATE_SKIP
from sessiond.v1.session_state_pb2 import StatePatch
from sessiond_server.core.limits import MAX_STATE_BYTES
from sessiond_server.db.pool import Database

from ..support.locks import LOCKS_LAST
from ..support.waiting import until_waiting
from ..support.wire import Wire, error_of, openai


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """A list that gets an entry whenever the server begins a transaction of several statements."""
    begun: list[None] = []
    transaction = Database.transaction

    def noted(self: Database) -> AbstractAsyncContextManager[Any]:
        begun.append(None)
        return transaction(self)

    monkeypatch.setattr(Database, "transaction", noted)
    return begun


def named(text: str, message_id: str) -> Message:
    message = openai(text)
    message.message_id = message_id
    return message


async def state_of(wire: Wire, session_id: str = "one") -> Any:
    return json.loads((await wire.get(session_id)).state_json)


async def test_an_append_with_a_small_change_is_one_statement(
    wire: Wire, transactions: list[None]
) -> None:
    await wire.create("one")
    transactions.clear()
    await wire.store("one", "a", state_patch=StatePatch(set={"k": "1", "l": "null"}))
    await wire.store("one", "b", "c", state_patch=StatePatch(set={"k": "2"}), request_id="r")
    stored = await wire.store(
        "one",
        named("d", "d"),
        named("e", "e"),
        expected_last_seq=3,
        on_duplicate=ON_DUPLICATE_SKIP,
        state_patch=StatePatch(set={"m": '{"n": 3}'}),
    )
    assert (stored.first_seq, stored.last_seq, transactions) == (4, 5, [])
    assert await state_of(wire) == {"k": 2, "l": None, "m": {"n": 3}}
    assert await wire.texts("one") == ["a", "b", "c", "d", "e"]


async def test_an_append_that_stores_nothing_changes_no_state(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", named("a", "a"), state_patch=StatePatch(set={"k": "1"}))
    change = StatePatch(set={"k": "2"})
    conflict = await error_of(wire.store("one", "b", expected_last_seq=0, state_patch=change))
    assert conflict.reason == "SEQUENCE_CONFLICT"
    repeated = await error_of(wire.store("one", named("b", "a"), state_patch=change))
    assert repeated.reason == "MESSAGE_ALREADY_EXISTS"
    missing = await error_of(wire.store("two", "b", state_patch=change))
    assert missing.reason == "SESSION_NOT_FOUND"
    assert await state_of(wire) == {"k": 1}
    assert await wire.texts("one") == ["a"]


async def test_a_small_change_is_refused_if_it_would_exceed_the_limit_of_a_state(
    wire: Wire,
) -> None:
    await wire.create("one")
    large = json.dumps("x" * (MAX_STATE_BYTES - 1_000))
    await wire.store("one", "a", state_patch=StatePatch(set={"large": large}))
    await wire.store("one", "b", state_patch=StatePatch(set={"k": "1"}))  # it still fits
    too_much = StatePatch(set={"l": json.dumps("x" * 2_000)})
    refused = await error_of(wire.store("one", "c", state_patch=too_much))
    assert refused.reason == "INVALID_FIELD"
    assert "state" in refused.text
    assert await wire.texts("one") == ["a", "b"]
    assert await state_of(wire) == {"large": "x" * (MAX_STATE_BYTES - 1_000), "k": 1}


@LOCKS_LAST
async def test_changes_that_waited_for_a_lock_replace_what_was_committed_meanwhile(
    wire: Wire, database_url: str
) -> None:
    """Another program holds the row, and changes the same key before it releases the row."""
    await wire.create("one")
    await wire.store("one", "a", state_patch=StatePatch(set={"k": "1"}))
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        await connection.execute("SELECT FROM sessions WHERE session_id = 'one' FOR UPDATE")
        await connection.execute("UPDATE session_state SET value = '2' WHERE name = 'k'")
        change = StatePatch(set={"k": "3", "new": "4"})
        append = asyncio.create_task(wire.store("one", "b", state_patch=change))
        await until_waiting(database_url)
        await connection.commit()
    await append
    assert await state_of(wire) == {"k": 3, "new": 4}
