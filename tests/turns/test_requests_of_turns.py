"""Requests of turns: reported changes, and a size that is known before the request is built."""

import json
import tracemalloc
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from sessiond import AsyncClient
from sessiond.v1 import turn_pb2
from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC, ROLE_USER, Blob, Message, Part, Parts
from sessiond.v1.turn_pb2 import TURN_STATE_FAILED
from sessiond_server.assets.service import Assets
from sessiond_server.core.ids import DEFAULT_PROJECT_ID
from sessiond_server.formats.report import ChangeKind
from sessiond_server.rpc.reflection import contract
from sessiond_server.server import Running
from sessiond_server.turns.store.rows import MAX_CHANGES

from ..support.model_server import ModelServer, fails
from ..support.turns import send, sending
from ..support.wire import Wire, error_of, openai
from .calls import turn_of, turns_of

MIB = 1024 * 1024


def call(call_id: str) -> Message:
    block = {"type": "tool_use", "id": call_id, "name": "look", "input": {}}
    value = {"role": "assistant", "content": [block]}
    return Message(format=FORMAT_ANTHROPIC, json=json.dumps(value))


def changes_of(turn: turn_pb2.Turn) -> list[tuple[int, str, str]]:
    return [
        (change.seq, turn_pb2.FitChangeKind.Name(change.kind)[16:], change.detail)
        for change in turn.changes
    ]


async def test_a_turn_says_what_its_request_changed(one: Wire) -> None:
    await one.store("one", "look", call("c1"))
    turn = await send(one, "one", "never mind")
    assert changes_of(turn) == [(2, "RESULT_MISSING", "c1")]
    assert turn.change_count == 1
    assert await turn_of(one, turn.turn_id) == turn
    assert await turns_of(one) == [turn]


async def test_a_failed_turn_says_it_too(one: Wire, models: ModelServer) -> None:
    await one.store("one", "look", call("c1"))
    models.script(fails(400, "bad"))
    sent = await sending(one, "one", "hi")
    assert (await sent.error()).reason == "MODEL_REQUEST_REJECTED"
    turn = await turn_of(one, sent.turn.turn_id)
    assert (turn.state, changes_of(turn)) == (TURN_STATE_FAILED, [(2, "RESULT_MISSING", "c1")])


async def test_a_turn_keeps_the_first_of_many_changes(one: Wire) -> None:
    count = MAX_CHANGES + 20
    await one.store("one", *[m for i in range(count) for m in ("look", call(f"c{i}"))])
    turn = await send(one, "one", "never mind")
    assert (len(turn.changes), turn.change_count) == (MAX_CHANGES, count)


async def test_a_turn_without_changes_reports_none(one: Wire) -> None:
    turn = await send(one, "one", "hi")
    assert (list(turn.changes), turn.change_count) == ([], 0)


def test_every_kind_of_change_has_a_name_on_the_wire() -> None:
    assert [f"FIT_CHANGE_KIND_{kind.name}" for kind in ChangeKind] == [
        name for name, number in turn_pb2.FitChangeKind.items() if number
    ]


def test_the_documentation_and_the_protos_describe_each_kind_alike() -> None:
    [encoded, *_] = contract().file_of_symbol("sessiond.v1.FitChangeKind")
    file = FileDescriptorProto.FromString(encoded)
    place = [enum.name for enum in file.enum_type].index("FitChangeKind")
    comments = {
        file.enum_type[place].value[at[3]].name: " ".join(location.leading_comments.split())
        for location in file.source_code_info.location
        if len(at := location.path) == 4 and tuple(at[:3]) == (5, place, 2)
    }
    del comments["FIT_CHANGE_KIND_UNSPECIFIED"]
    assert comments == {f"FIT_CHANGE_KIND_{kind.name}": kind.value for kind in ChangeKind}


@pytest.fixture
async def client(server: Running) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        yield client


async def test_the_client_shows_the_changes(one: Wire, client: AsyncClient) -> None:
    await one.store("one", "look", call("c1"))
    session = await client.get_session("one")
    await session.send_and_wait("never mind")
    [turn] = [turn async for turn in session.turns()]
    [change] = turn.changes
    assert (change.seq, change.kind, change.detail) == (2, "result_missing", "c1")
    assert turn.to_dict()["changes"] == [{"seq": 2, "kind": "result_missing", "detail": "c1"}]
    assert turn.change_count == 1


async def test_forty_large_assets_are_refused_before_they_are_loaded(
    one: Wire,
    models: ModelServer,
    query: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def unwanted(*_: Any) -> Any:
        raise AssertionError("an asset is loaded")

    monkeypatch.setattr(Assets, "download", unwanted)
    # The objects of these assets do not exist, so they cannot be loaded.
    query(
        "INSERT INTO assets (project_id, sha256, object_key, size, media_type) "
        "SELECT %s, sha256(int4send(n)), 'nowhere/' || n, 8388608, 'image/png' "
        "FROM generate_series(1, 40) AS n",
        [DEFAULT_PROJECT_ID],
    )
    ids = [row[0] for row in query("SELECT encode(sha256, 'hex') FROM assets")]
    parts = [
        Message(role=ROLE_USER, parts=Parts(parts=[Part(image=Blob(asset_id=id_))])) for id_ in ids
    ]
    await one.store("one", openai("look"), *parts)
    tracemalloc.start()
    try:
        error = await error_of(send(one, "one", "what is on them?"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert error.reason == "CONTEXT_TOO_LARGE"
    assert int(error.metadata["context_bytes"]) > 40 * 8 * MIB * 4 // 3
    assert int(error.metadata["max_bytes"]) == 64 * MIB
    assert all(
        word in error.text for word in ("config.context", "rewind", "max_model_request_bytes")
    )
    assert peak < 20 * MIB
    assert models.requests == []
