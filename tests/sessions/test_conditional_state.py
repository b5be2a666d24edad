"""state_etag: a conditional change is stored only if the state is unchanged since it was read."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from sessiond import AsyncClient, ETagMismatch, NewMessage
from sessiond.v1.rewind_pb2 import RewindSessionRequest
from sessiond.v1.session_pb2 import Session
from sessiond.v1.session_service_pb2 import (
    ON_DUPLICATE_SKIP,
    CopySessionRequest,
    CreateSessionRequest,
)
from sessiond.v1.session_state_pb2 import StatePatch
from sessiond_server.server import Running

from ..support.wire import Wire, error_of, openai


@pytest.fixture
async def aclient(server: Running) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        yield client


async def create(wire: Wire, session_id: str, **state: str) -> Session:
    request = CreateSessionRequest(
        session=Session(session_id=session_id), state_patch=StatePatch(set=state)
    )
    return await wire.sessions.CreateSession(request)  # type: ignore[no-any-return]


async def test_an_append_stores_nothing_if_the_state_is_another_one(wire: Wire) -> None:
    first = await create(wire, "one", n="1")
    await wire.store("one", "a", state_patch=StatePatch(set={"n": "2"}))
    current = (await wire.get("one")).state_etag
    pieces = [[openai("b")], [openai("c")]]
    patch = StatePatch(set={"n": "3"})
    rewind = RewindSessionRequest(
        session_id="one", to_seq=0, state_patch=patch, state_etag=first.state_etag
    )
    for call in (
        wire.store("one", "b", state_patch=patch, state_etag=first.state_etag),
        wire.store("one", "b", state_etag=first.state_etag),
        wire.import_("one", pieces, state_patch=patch, state_etag=first.state_etag),
        wire.sessions.RewindSession(rewind),
    ):
        error = await error_of(call)
        assert (error.reason, error.metadata["etag"]) == ("ETAG_MISMATCH", current)
    after = await wire.get("one")
    assert (after.last_seq, after.epoch, after.state_json) == (1, 0, '{"n":2}')

    await wire.store("one", "b", state_etag=current)
    await wire.store("one", "c", state_etag=current, state_patch=patch)
    current = (await wire.get("one")).state_etag
    await wire.import_("one", pieces, state_etag=current)
    rewind.state_etag = current
    await wire.sessions.RewindSession(rewind)
    assert (await wire.get("one")).state_json == '{"n":3}'


async def test_a_missing_session_has_an_empty_state(wire: Wire) -> None:
    empty = (await create(wire, "empty")).state_etag
    other = (await create(wire, "other", n="1")).state_etag
    error = await error_of(wire.store("one", "a", create=Session(), state_etag=other))
    assert (error.reason, error.metadata["etag"]) == ("ETAG_MISMATCH", empty)
    assert (await error_of(wire.get("one"))).reason == "SESSION_NOT_FOUND"
    patch = StatePatch(set={"n": "1"})
    await wire.store("one", "a", create=Session(), state_patch=patch, state_etag=empty)
    assert (await wire.get("one")).state_etag == other


async def test_nothing_is_skipped_if_the_state_is_another_one(wire: Wire) -> None:
    etag = (await create(wire, "one", n="1")).state_etag
    named = openai("a")
    named.message_id = "m"
    await wire.store("one", named, state_patch=StatePatch(set={"n": "2"}))
    current = (await wire.get("one")).state_etag
    fields = {"on_duplicate": ON_DUPLICATE_SKIP}
    error = await error_of(wire.store("one", named, state_etag=etag, **fields))
    assert error.reason == "ETAG_MISMATCH"
    assert (await wire.store("one", named, state_etag=current, **fields)).skipped_count == 1


async def test_a_repetition_returns_the_first_result_whatever_the_state_is(wire: Wire) -> None:
    etag = (await create(wire, "one")).state_etag
    fields = {"request_id": "r", "state_etag": etag, "state_patch": StatePatch(set={"n": "1"})}
    first = await wire.store("one", "a", **fields)
    assert await wire.store("one", "a", **fields) == first
    assert (await wire.get("one")).last_seq == 1


async def test_one_of_many_writers_wins_each_round(aclient: AsyncClient) -> None:
    await aclient.create_session("one", state={"n": 0})

    async def add(name: str) -> int:
        for conflicts in range(1000):
            info = await aclient.sessions.get("one")
            assert info.state is not None
            message = NewMessage({"role": "user", "content": name})
            try:
                await aclient.sessions.store_messages(
                    "one", [message], state={"n": info.state["n"] + 1}, state_etag=info.state_etag
                )
            except ETagMismatch:
                continue
            return conflicts
        raise AssertionError("no turn came")

    await asyncio.gather(*(add(str(i)) for i in range(12)))
    info = await aclient.sessions.get("one")
    assert info.state is not None
    assert (info.state["n"], info.last_seq) == (12, 12)


async def test_a_copy_gets_its_own_state_in_the_same_commit(
    wire: Wire, aclient: AsyncClient
) -> None:
    await create(wire, "one", a="1", b="2")
    copied = await aclient.sessions.copy("one", "two", state={"a": [3]}, remove_state=["b"])
    assert copied.session.session_id == "two"
    assert (await wire.get("two")).state_json == '{"a":[3]}'
    assert (await wire.get("one")).state_json == '{"a":1,"b":2}'
    request = CopySessionRequest(
        session_id="one", new_session_id="three", state_patch=StatePatch(set={"c": "nope"})
    )
    assert (await error_of(wire.sessions.CopySession(request))).reason == "INVALID_JSON"
    request.state_patch.set["c"] = '"' + "x" * 1024 * 1024 + '"'
    error = await error_of(wire.sessions.CopySession(request))
    assert list(error.fields) == ["state_patch.set"]
    request.state_patch.set["c"] = '"' + "x" * (1024 * 1024 - 10) + '"'
    error = await error_of(wire.sessions.CopySession(request))
    assert list(error.fields) == ["state_patch.set"]
    assert (await error_of(wire.get("three"))).reason == "SESSION_NOT_FOUND"
    request.state_patch.set["c"] = "4"
    request.request_id = "r"
    first = await wire.sessions.CopySession(request)
    assert (await wire.sessions.CopySession(request)).session.session_id == "three"
    assert first.session.session_id == "three"
    request.state_patch.set["c"] = "5"
    assert (await error_of(wire.sessions.CopySession(request))).reason == "REQUEST_ID_REUSED"


async def test_the_client_rewinds_the_state_with_the_messages(aclient: AsyncClient) -> None:
    session = await aclient.create_session("one", state={"a": 1, "b": 2})
    await session.store_message({"role": "user", "content": "x"})
    etag = (await session.refresh()).state_etag
    await session.rewind(to_seq=0, state={"a": 0}, remove_state=["b"], state_etag=etag)
    assert (await session.refresh()).state == {"a": 0}
