"""The state of a session: a JSON object that changes key by key, in the commit of an append."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from sessiond import AsyncClient, ETagMismatch, InvalidField
from sessiond.v1.rewind_pb2 import RewindSessionRequest
from sessiond.v1.session_pb2 import Session
from sessiond.v1.session_service_pb2 import (
    ON_DUPLICATE_SKIP,
    CreateSessionRequest,
    ListSessionsRequest,
    UpdateSessionRequest,
)
from sessiond.v1.session_state_pb2 import StatePatch
from sessiond_server.server import Running

from ..support.wire import Wire, error_of, openai

ODD = {
    "n": "null",
    "big": "12345678901234567890123",
    "float": "1.50",
    "spaced": '{"b":  1, "a": [1,\n2]}',
    "text": '"\\u0000 \\ud83d é ☕"',
    'k"ey é ☕': "true",
}


def patch(*removed: str, **values: str) -> StatePatch:
    return StatePatch(set=values, remove=removed)


async def create(wire: Wire, session_id: str, state: StatePatch, **fields: Any) -> Session:
    request = CreateSessionRequest(
        session=Session(session_id=session_id), state_patch=state, **fields
    )
    return await wire.sessions.CreateSession(request)  # type: ignore[no-any-return]


async def update(wire: Wire, session_id: str, state: StatePatch, **fields: Any) -> Session:
    session = Session(session_id=session_id, **fields.pop("session", {}))
    request = UpdateSessionRequest(session=session, state_patch=state, **fields)
    return await wire.sessions.UpdateSession(request)  # type: ignore[no-any-return]


async def state_of(wire: Wire, session_id: str = "one") -> Any:
    return json.loads((await wire.get(session_id)).state_json)


async def test_values_come_back_byte_for_byte(wire: Wire) -> None:
    created = await create(wire, "one", StatePatch(set=ODD))
    got = await wire.get("one")
    assert got == created
    members = sorted(ODD.items(), key=lambda item: item[0].encode())
    assert (
        got.state_json
        == "{"
        + ",".join(f"{json.dumps(name, ensure_ascii=False)}:{value}" for name, value in members)
        + "}"
    )
    empty = await wire.create("two")
    assert (empty.state_json, bool(empty.state_etag)) == ("{}", True)
    padded = await update(wire, "two", patch(a=" \n1\t"))
    assert padded.state_json == '{"a":1}'


async def test_keys_are_set_and_removed_in_the_commit_of_an_append(wire: Wire) -> None:
    await create(wire, "one", patch(a="1", b="2"))
    await wire.store("one", "x", state_patch=patch("b", "not there", a="null", c='{"d":1}'))
    assert await state_of(wire) == {"a": None, "c": {"d": 1}}
    await wire.import_("one", [[openai("y")], [openai("z")]], state_patch=patch("a", e="[]"))
    assert await state_of(wire) == {"c": {"d": 1}, "e": []}
    assert (await wire.get("one")).last_seq == 3
    for refused in (
        wire.store("one", "x", expected_last_seq=1, state_patch=patch(c="0")),
        wire.import_("one", [[openai("x")]], expected_last_seq=1, state_patch=patch(c="0")),
        wire.store("one", "x", state_patch=patch(c="0"), expected_epoch=3),
    ):
        assert (await error_of(refused)).code == grpc.StatusCode.ABORTED
    assert await state_of(wire) == {"c": {"d": 1}, "e": []}
    await wire.store("new", "x", create=Session(user="ada"), state_patch=patch(k="1"))
    assert await state_of(wire, "new") == {"k": 1}


async def test_a_repeated_append_changes_the_state_once(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", "x", request_id="r", state_patch=patch(a="1"))
    await wire.store("one", "y", state_patch=patch(a="2"))
    await wire.store("one", "x", request_id="r", state_patch=patch(a="1"))
    assert await state_of(wire) == {"a": 2}
    error = await error_of(wire.store("one", "x", request_id="r", state_patch=patch(a="3")))
    assert error.reason == "REQUEST_ID_REUSED"
    named = openai("n")
    named.message_id = "n"
    skip = {"on_duplicate": ON_DUPLICATE_SKIP}
    await wire.store("one", named, state_patch=patch(b="1"), **skip)
    # If no message is stored, the state does not change.
    await wire.store("one", named, state_patch=patch(b="2"), **skip)
    assert await state_of(wire) == {"a": 2, "b": 1}


async def test_an_update_may_depend_on_the_state(wire: Wire) -> None:
    first = await create(wire, "one", patch(a="1"))
    second = await update(
        wire, "one", patch("a", b="2"), state_etag=first.state_etag, session={"title": "T"}
    )
    assert (second.state_json, second.title) == ('{"b":2}', "T")
    assert second.state_etag != first.state_etag
    error = await error_of(
        update(wire, "one", patch(c="3"), state_etag=first.state_etag, session={"title": "U"})
    )
    assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert error.metadata["etag"] == second.state_etag
    assert await wire.get("one") == second
    # The state has its own etag, so the etag of the settings does not change.
    third = await update(wire, "one", patch(b="3"))
    assert (third.etag, third.state_json) == (second.etag, '{"b":3}')
    again = await update(wire, "one", patch("c", b="2"))
    assert again.state_etag == second.state_etag


async def test_16_updates_with_an_etag_lose_nothing(wire: Wire) -> None:
    await create(wire, "one", patch(n="0"))

    async def add() -> None:
        while True:
            session = await wire.get("one")
            n = json.loads(session.state_json)["n"]
            try:
                await update(wire, "one", patch(n=str(n + 1)), state_etag=session.state_etag)
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.ABORTED:
                    raise
            else:
                return

    await asyncio.gather(*(add() for _ in range(16)))
    assert await state_of(wire) == {"n": 16}


@pytest.mark.parametrize(
    ("wrong", "field", "reason"),
    [
        (patch(a="{"), "state_patch.set['a']", "INVALID_JSON"),
        (patch(a=""), "state_patch.set['a']", "INVALID_JSON"),
        (patch(a="NaN"), "state_patch.set['a']", "INVALID_JSON"),
        (patch(a="[" * 201 + "]" * 201), "state_patch.set['a']", "INVALID_JSON"),
        (StatePatch(set={"": "1"}), "state_patch.set['']", "INVALID_FIELD"),
        (StatePatch(set={"x" * 257: "1"}), f"state_patch.set['{'x' * 80}']", "INVALID_FIELD"),
        (patch("a", a="1"), "state_patch.remove['a']", "INVALID_FIELD"),
        (StatePatch(remove=[""]), "state_patch.remove['']", "INVALID_FIELD"),
        (patch(a='"' + "x" * 1024 * 1024 + '"'), "state_patch.set", "INVALID_FIELD"),
        (
            StatePatch(set={f"k{i}": "1" for i in range(10_001)}),
            "state_patch.set",
            "INVALID_FIELD",
        ),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_changes(
    wire: Wire, wrong: StatePatch, field: str, reason: str
) -> None:
    await create(wire, "one", patch(b="1"))
    for call in (
        wire.store("one", "x", state_patch=wrong),
        wire.import_("one", [[openai("x")]], state_patch=wrong),
        update(wire, "one", wrong),
        create(wire, "two", wrong),
        wire.store("two", "x", create=Session(), state_patch=wrong),
        wire.sessions.RewindSession(
            RewindSessionRequest(session_id="one", to_seq=0, state_patch=wrong)
        ),
    ):
        error = await error_of(call)
        assert (error.reason, list(error.fields)) == (reason, [field])
    assert [s.session_id for s in await wire.list()] == ["one"]
    assert ((await wire.get("one")).last_seq, await state_of(wire)) == (0, {"b": 1})


async def test_the_whole_state_has_a_limit(wire: Wire) -> None:
    half = '"' + "x" * 600_000 + '"'
    await create(wire, "one", patch(a=half))
    for call in (
        wire.store("one", "x", state_patch=patch(b=half)),
        update(wire, "one", patch(b=half)),
    ):
        assert list((await error_of(call)).fields) == ["state_patch.set"]
    # Replaced and removed values do not count towards the limit.
    await wire.store("one", "x", state_patch=patch("a", b=half))
    await wire.store("one", "x", state_patch=patch(b=half))
    assert list(await state_of(wire)) == ["b"]


async def test_a_rewind_keeps_the_state_unless_it_changes_it(wire: Wire) -> None:
    await create(wire, "one", patch(a="1"))
    await wire.store("one", "x", "y", state_patch=patch(a="2"))
    await wire.rewind("one", to_seq=1)
    assert await state_of(wire) == {"a": 2}
    for fields in ({"drop_last": 1}, {"to_seq": 0, "messages": [openai("z")]}):
        request = RewindSessionRequest(
            session_id="one",
            state_patch=patch(a=str(len(fields) + 5)),
            request_id=f"r{len(fields)}",
            **fields,  # type: ignore[arg-type]
        )
        await wire.sessions.RewindSession(request)
        assert await state_of(wire) == {"a": len(fields) + 5}
        await update(wire, "one", patch(a="0"))
        await wire.sessions.RewindSession(request)
        assert await state_of(wire) == {"a": 0}


async def test_copies_have_the_state_and_go_on_alone(
    wire: Wire, purger: Any, query: Callable[..., Any]
) -> None:
    await create(wire, "one", patch(a="1", b="[1,  2]"))
    await wire.store("one", "x", "y", state_patch=patch(a="2"))
    copy = await wire.copy("one", "two", up_to_seq=1)
    assert copy.session.state_json == '{"a":2,"b":[1,  2]}'
    await update(wire, "two", patch("b"))
    assert (await state_of(wire), await state_of(wire, "two")) == ({"a": 2, "b": [1, 2]}, {"a": 2})
    await wire.rewind("one", to_seq=0)
    await purger.round()
    assert await state_of(wire) == {"a": 2, "b": [1, 2]}
    await wire.delete("one")
    assert (await wire.create("one")).state_json == "{}"
    await wire.delete("one")
    await wire.delete("two")
    while query("SELECT count(*) FROM dead_logs") != [(0,)]:
        await purger.round()
    assert query("SELECT count(*) FROM session_state") == [(0,)]


async def test_listings_have_states_on_request(wire: Wire) -> None:
    big = '"' + "x" * 1_000_000 + '"'
    for i in range(10):
        await create(wire, f"s{i}", patch(a=big if i % 2 else "1"))
    plain = await wire.sessions.ListSessions(ListSessionsRequest())
    assert len(plain.sessions) == 10
    assert not any(s.HasField("state_json") or s.state_etag for s in plain.sessions)
    seen: dict[str, str] = {}
    token = ""
    while token or not seen:
        page = await wire.sessions.ListSessions(
            ListSessionsRequest(with_state=True, page_token=token)
        )
        assert page.ByteSize() < 4 * 1024 * 1024
        seen |= {s.session_id: s.state_json for s in page.sessions}
        token = page.next_page_token
    assert seen == {f"s{i}": f'{{"a":{big if i % 2 else 1}}}' for i in range(10)}


async def test_appends_without_a_patch_leave_the_table_alone(
    wire: Wire, query: Callable[..., Any]
) -> None:
    await create(wire, "one", patch(a="1"))
    before = query("SELECT xmin::text, ctid::text FROM session_state")
    await wire.store("one", "x", "y")
    assert query("SELECT xmin::text, ctid::text FROM session_state") == before


async def test_the_client_keeps_states(server: Running) -> None:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        session = await client.create_session("one", state={"a": {"b": [1.5, None]}})
        assert session.info.state == {"a": {"b": [1.5, None]}}
        message = {"role": "user", "content": "hi"}
        await session.store_messages([message], state={"k": 1, "none": None})
        await session.import_messages([message], remove_state=["a"], state={"big": 2**80})
        assert (await session.refresh()).state == {"k": 1, "none": None, "big": 2**80}
        etag = session.info.state_etag
        await session.update(state={"k": 2}, remove_state=["none"], state_etag=etag, title="T")
        assert (session.info.state, session.info.title) == ({"k": 2, "big": 2**80}, "T")
        with pytest.raises(ETagMismatch):
            await session.update(state={"k": 3}, state_etag=etag)
        await client.sessions.store_messages("two", [message], create={}, state={"x": "y"})
        assert (await client.sessions.get("two")).state == {"x": "y"}
        listed = {info.session_id: info.state async for info in client.list_sessions()}
        assert listed == {"one": None, "two": None}
        listed = {
            info.session_id: info.state async for info in client.list_sessions(with_state=True)
        }
        assert listed == {"one": {"k": 2, "big": 2**80}, "two": {"x": "y"}}
        for wrong in ({"a": object()}, {1: 2}, [1]):
            with pytest.raises(InvalidField, match="state"):
                await session.update(state=wrong)  # type: ignore[arg-type]


async def test_an_export_keeps_the_spelling_of_a_state(wire: Wire, server: Running) -> None:
    await create(wire, "one", StatePatch(set=ODD))
    await wire.create("none")
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        for name in ("one", "none"):
            lines = [line async for line in client.sessions.export_lines(name)]
            await client.sessions.import_session(lines, f"{name} again")
            got, again = await wire.get(name), await wire.get(f"{name} again")
            assert (got.state_json, got.state_etag) == (again.state_json, again.state_etag)
        broken = [lines[0].replace('"state_json":"{}"', '"state_json":"{]"'), *lines[1:]]
        with pytest.raises(InvalidField, match="state_json"):
            await client.sessions.import_session(broken, "broken")
