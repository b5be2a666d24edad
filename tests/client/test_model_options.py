"""Options of models: dicts in Python, and JSON text on the wire in the caller's order."""

import json
from typing import Any

import pytest

from sessiond import InvalidField, SessionInfo
from sessiond._export import records
from sessiond._export.reader import Assembler
from sessiond._protocol.structs import fill_struct, from_struct
from sessiond.v1 import session_pb2
from sessiond.v1.conversation_service_pb2 import SendRequest
from sessiond.v1.session_service_pb2 import CopySessionResponse, ListSessionsResponse

from .conftest import Colour, FakeServer

SCHEMA = {"reasoning": {"type": "string"}, "answer": {"type": "string"}, "a": 2**63, "n": 1.0}
OPTIONS = {"tools": [], "response_format": {"schema": SCHEMA}, "seed": 2**60 + 1, "b": None}
TEXT = (
    '{"tools":[],"response_format":{"schema":{"reasoning":{"type":"string"},"answer":{"type":'
    '"string"},"a":9223372036854775808,"n":1.0}},"seed":1152921504606846977,"b":null}'
)


def session_with(config: dict[str, Any]) -> session_pb2.Session:
    session = session_pb2.Session(session_id="s", status=session_pb2.SESSION_STATUS_ACTIVE)
    fill_struct(session.config, config, "config")
    return session


async def sent(colour: Colour, server: FakeServer, session: Any, *args: Any, **kw: Any) -> Any:
    with pytest.raises(Exception, match="UNIMPLEMENTED"):
        await colour.call(session.send, *args, **kw)
    request = server.of("Send")[-1]
    assert isinstance(request, SendRequest)
    return request


async def test_options_go_as_text_in_their_order(
    colour: Colour, server: FakeServer, session: Any
) -> None:
    assert (await sent(colour, server, session, "x", options=OPTIONS)).options_json == TEXT
    request = await sent(colour, server, session, {"prompt": "x", "options": OPTIONS})
    assert request.options_json == TEXT
    assert (await sent(colour, server, session, "x", options={})).options_json == "{}"
    for none in ({}, {"options": None}):
        assert (await sent(colour, server, session, "x", **none)).options_json == ""


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ("{}", "options"),
        ([], "options"),
        ({"tools": [{"x": b"y"}]}, "options.tools[0].x"),
        ({"temperature": float("nan")}, "options.temperature"),
        ({"stop": {"a"}}, "options.stop"),
    ],
)
async def test_options_that_cannot_be_sent_are_named(
    colour: Colour, server: FakeServer, session: Any, options: Any, path: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        await colour.call(session.send, "x", options=options)
    assert caught.value.field_violations[0].field == path
    assert server.of("Send") == []


async def test_those_of_a_config_go_as_text_and_come_back_as_a_dict(
    colour: Colour, server: FakeServer, client: Any
) -> None:
    config = {"system_prompt": "p", "model_options": OPTIONS}
    stored = session_with({"system_prompt": "p", "model_options": TEXT})
    for method in ("CreateSession", "UpdateSession"):
        server.on(method, stored)
    server.on("CopySession", CopySessionResponse(session=stored))
    calls = client.sessions
    results = [
        await colour.call(calls.create, "s", config=config),
        await colour.call(calls.update, "s", config=config),
        await colour.call(calls.update, "s", config_patch=config),
        (await colour.call(calls.copy, "s", "t", config=config)).session,
    ]
    update, patch = server.of("UpdateSession")
    structs = [
        server.of("CreateSession")[0].session.config,
        update.session.config,
        patch.config_patch,
        server.of("CopySession")[0].config,
    ]
    for struct in structs:
        assert from_struct(struct) == {"system_prompt": "p", "model_options": TEXT}
    for info in results:
        assert info.config == config
        assert json.dumps(info.config["model_options"]) == json.dumps(OPTIONS)
    assert config["model_options"] is OPTIONS


async def test_a_patch_can_still_remove_them(
    colour: Colour, server: FakeServer, client: Any
) -> None:
    server.on("UpdateSession", session_with({}))
    await colour.call(client.sessions.update, "s", config_patch={"model_options": None})
    [request] = server.of("UpdateSession")
    assert from_struct(request.config_patch) == {"model_options": None}


@pytest.mark.parametrize("kept", [{"a": 1}, "no JSON", "[1]", 5])
def test_other_values_under_the_key_are_left_as_they_are(kept: Any) -> None:
    assert SessionInfo(session_with({"model_options": kept})).config == {"model_options": kept}


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"model_options": {"x": {1}}}, "config.model_options.x"),
        ({"n": 2**60}, "config.n"),
        (5, "config"),
    ],
)
async def test_configs_that_cannot_be_sent_are_named(
    colour: Colour, client: Any, config: Any, path: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        await colour.call(client.create_session, "s", config=config)
    assert caught.value.field_violations[0].field == path


async def test_sessions_cannot_be_searched_by_them(
    colour: Colour, server: FakeServer, client: Any
) -> None:
    server.on("ListSessions", ListSessionsResponse())
    with pytest.raises(InvalidField, match="is stored as text"):
        await colour.call(client.list_sessions, config_contains={"model_options": {"seed": 1}})
    await colour.collect(client.list_sessions(config_contains={"system_prompt": "p"}))


def test_an_export_has_their_exact_text_and_older_ones_are_read() -> None:
    stored = session_with({"b": {"z": 1, "a": 2}, "model_options": TEXT})
    kind, value = records.header(SessionInfo(stored))
    assert value["session"]["config"] == {"b": {"a": 2, "z": 1}, "model_options": TEXT}
    for exported in (TEXT, json.loads(TEXT)):
        value["session"]["config"]["model_options"] = exported
        assembler = Assembler(None, "r")
        assembler.take("line 1", (kind, value))
        assembler.take("line 2", ("end", {"tasks": 0, "bookmarks": 0, "messages": 0, "assets": 0}))
        assert from_struct(assembler.finish().session.config)["model_options"] == TEXT
