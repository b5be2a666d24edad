"""StoreMessages.create: a missing session is created in the commit of its first messages."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sessiond import AsyncClient, SessionNotFound
from sessiond.errors import InvalidField
from sessiond.v1.session_pb2 import Session
from sessiond.v1.session_service_pb2 import ON_DUPLICATE_SKIP
from sessiond_server.server import Running

from ..support.wire import Wire, error_of, openai, pictures
from .helpers import ask, seqs

ADA = Session(user="ada", title="T", model="m")
ADA.metadata.update({"k": 1})


async def test_a_missing_session_is_made_with_its_first_messages(wire: Wire) -> None:
    stored = await wire.store("one", "a", "b", create=ADA)
    assert (stored.first_seq, stored.last_seq) == (1, 2)
    session = await wire.get("one")
    assert (session.user, session.title, session.model, session.metadata["k"]) == (
        "ada",
        "T",
        "m",
        1,
    )
    assert (session.last_seq, session.message_count) == (2, 2)
    # An existing session stays as it is.
    assert (await wire.store("one", "c", create=Session(user="bob"))).last_seq == 3
    assert (await wire.get("one")).user == "ada"
    imported = await wire.import_("two", [[openai("a")], [openai("b")]], create=Session())
    assert (imported.first_seq, imported.last_seq) == (1, 2)
    assert await wire.texts("two") == ["a", "b"]


async def test_wrong_settings_are_named_and_nothing_is_made(wire: Wire) -> None:
    wrong = {
        "create.user": Session(user="x" * 257),
        "create.title": Session(title="a\nb"),
        "create.session_id": Session(session_id="two"),
        "create.never_expires": Session(never_expires=False),
    }
    short = Session()
    short.idle_ttl.FromMilliseconds(1)
    wrong["create.idle_ttl"] = short
    await wire.create("there")
    for field, create in wrong.items():
        for session_id in ("one", "there"):
            error = await error_of(wire.store(session_id, "a", create=create))
            assert (error.reason, list(error.fields)) == ("INVALID_FIELD", [field])
    await wire.store("one", "a", create=Session(session_id="one"))


async def test_conditions_are_those_of_an_empty_session(wire: Wire) -> None:
    error = await error_of(wire.store("one", "a", create=ADA, expected_last_seq=1))
    assert (error.reason, error.metadata["last_seq"]) == ("SEQUENCE_CONFLICT", "0")
    child = openai("c")
    child.parent_seq = 2
    error = await error_of(wire.store("one", "a", child, create=ADA))
    assert error.reason == "PARENT_NOT_FOUND"
    error = await error_of(wire.store("one", pictures("0" * 64), create=ADA))
    assert error.reason == "ASSET_NOT_FOUND"
    error = await error_of(wire.store("one", "a"))
    assert error.reason == "SESSION_NOT_FOUND"
    assert await wire.list() == []
    child.parent_seq = 1
    assert (await wire.store("one", "a", "b", child, create=ADA, expected_last_seq=0)).last_seq == 3
    assert [m.parent_seq for m in await wire.read("one")] == [0, 0, 1]
    await wire.destroy("one")
    assert (await error_of(wire.store("one", "a", create=ADA))).reason == "SESSION_DESTROYED"


async def test_ids_and_request_ids_hold_from_the_first_append_on(wire: Wire) -> None:
    named = openai("a")
    named.message_id = "m"
    skip = {"on_duplicate": ON_DUPLICATE_SKIP, "create": ADA}
    first = await wire.store("one", named, named, request_id="r", **skip)
    assert (first.last_seq, first.skipped_count) == (1, 1)
    assert await wire.store("one", named, named, request_id="r", **skip) == first
    assert (await wire.store("one", named, **skip)).skipped_count == 1
    assert (await wire.message("one", message_id="m")).seq == 1
    imported = await wire.import_("two", [[named], [named]], **skip)
    assert (imported.last_seq, imported.skipped_count) == (1, 1)
    assert (await wire.message("two", message_id="m")).seq == 1


async def test_16_creators_make_one_session(wire: Wire) -> None:
    for round_ in range(5):
        name = f"s{round_}"
        ends = await asyncio.gather(
            *(wire.store(name, f"{i}", create=Session(user=f"u{i}")) for i in range(16))
        )
        assert sorted(end.first_seq for end in ends) == list(range(1, 17))
        first = next(i for i, end in enumerate(ends) if end.first_seq == 1)
        assert (await wire.get(name)).user == f"u{first}"


async def test_creators_and_deletions_leave_whole_sessions(
    wire: Wire, purger: Any, query: Callable[..., Any]
) -> None:
    async def write(i: int) -> None:
        for number in range(10):
            await wire.store("one", f"{i}-{number}", create=ADA)

    async def delete() -> None:
        for _ in range(10):
            await wire.delete("one", allow_missing=True)

    await asyncio.gather(*map(write, range(4)), delete())
    session = await wire.get("one") if await wire.list() else None
    if session:
        assert [m.seq for m in await wire.read("one")] == list(range(1, session.last_seq + 1))
    await wire.delete("one", allow_missing=True)
    while query("SELECT count(*) FROM dead_logs") != [(0,)]:
        await purger.round()
    assert query("SELECT count(*) FROM messages") == [(0,)]


async def test_requests_of_a_batch_make_their_sessions(wire: Wire) -> None:
    await wire.create("there")
    outcomes = await wire.store_batch(
        ask("there", "a", create=ADA),
        ask("one", "a", create=ADA),
        ask("one", "b", create=Session(user="bob")),
        ask("two", "a"),
    )
    assert seqs(outcomes) == [(1, 1), (1, 1), (2, 2), "SESSION_NOT_FOUND"]
    assert ((await wire.get("one")).user, (await wire.get("there")).user) == ("ada", "")


async def test_an_expired_session_does_not_block_its_id(
    wire: Wire, query: Callable[..., Any]
) -> None:
    await wire.create("one", idle_ttl_s=60)
    await wire.store("one", "old")
    query("UPDATE sessions SET used_at = used_at - interval '1 hour'")
    assert (await wire.store("one", "new", create=ADA)).last_seq == 1
    assert await wire.texts("one") == ["new"]


async def test_the_client_makes_sessions(server: Running) -> None:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        message = {"role": "user", "content": "hi"}
        with pytest.raises(SessionNotFound):
            await client.sessions.store_messages("one", [message])
        stored = await client.sessions.store_messages(
            session_id="one", messages=[message], create={"user": "ada", "idle_ttl": 60}
        )
        assert list(stored) == [1]
        info = await client.sessions.get("one")
        assert (info.user, info.idle_ttl and info.idle_ttl.total_seconds()) == ("ada", 60)
        await client.sessions.import_messages("two", [message], create={})
        await client.sessions.store_message("three", message, create={"title": "T"})
        many = [{"role": "user", "content": str(i)} for i in range(200)]
        assert (await client.sessions.store_messages("four", many, create={})).last_seq == 200
        with pytest.raises(InvalidField, match="colour"):
            await client.sessions.store_messages("one", [message], create={"colour": "red"})  # type: ignore[typeddict-unknown-key]
