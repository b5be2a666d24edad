"""The calls about sessions, of client.sessions and of handles."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from sessiond import AsyncClient, InvalidField, errors
from sessiond._protocol.structs import from_struct
from sessiond.v1 import message_pb2, session_pb2
from sessiond.v1.session_service_pb2 import (
    SESSION_ORDER_CREATED_ASC,
    DeleteSessionResponse,
    ExportSessionResponse,
)

ACTIVE = session_pb2.Session(session_id="s", status=session_pb2.SESSION_STATUS_ACTIVE, last_seq=2)
DESTROYED = session_pb2.Session(session_id="s", status=session_pb2.SESSION_STATUS_DESTROYED)


async def test_create(colour, server, client) -> None:
    server.on("CreateSession", ACTIVE)
    session = await colour.call(
        client.create_session,
        session_id="s",
        model="gpt-5",
        user="u",
        title="t",
        config={"temperature": 0.5},
        metadata={"n": 1},
        idle_ttl=timedelta(hours=1),
    )
    assert session.session_id == "s"
    assert session.info.status == "active"
    sent = server.of("CreateSession")[0]
    assert not sent.get_or_create
    assert (sent.session.session_id, sent.session.model, sent.session.user, sent.session.title) == (
        "s",
        "gpt-5",
        "u",
        "t",
    )
    assert from_struct(sent.session.config) == {"temperature": 0.5}
    assert from_struct(sent.session.metadata) == {"n": 1}
    assert sent.session.idle_ttl.seconds == 3600


async def test_create_with_nothing(colour, server, client) -> None:
    server.on("CreateSession", ACTIVE)
    await colour.call(client.create_session)
    await colour.call(client.create_session, never_expires=True)
    plain, forever = server.of("CreateSession")
    assert plain.session == session_pb2.Session()
    assert forever.session == session_pb2.Session(never_expires=True)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"metadata": {"n": 2**53 + 1}}, "metadata.n"),
        ({"config": {"x": object()}}, "config.x"),
        ({"session_id": ""}, "session_id"),
        ({"session_id": 7}, "session_id"),
        ({"session_id": "\ud800"}, "session_id"),
        ({"idle_ttl": 5, "never_expires": True}, "idle_ttl"),
        ({"idle_ttl": "soon"}, "idle_ttl"),
    ],
)
async def test_a_bad_value_is_not_sent(
    colour, server, client, arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        await colour.call(client.create_session, **arguments)
    assert caught.value.field_violations[0].field == field
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert server.received == []


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("create", {}),
        ("list", {}),
        ("delete_many", {}),
        ("copy", {"session_id": "s"}),
        ("update", {"session_id": "s"}),
        ("get_messages", {"session_id": "s"}),
        ("store_message", {"session_id": "s", "blob": {}}),
    ],
)
async def test_an_unknown_keyword_is_a_type_error(
    colour, server, client, call: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'modle'"):
        await colour.call(getattr(client.sessions, call), **arguments, modle="m")
    assert server.received == []


async def test_get_or_create_resumes_a_destroyed_session(colour, server, client) -> None:
    server.on("CreateSession", ACTIVE, DESTROYED)
    server.on("ResumeSession", ACTIVE)
    await colour.call(client.get_or_create_session, "s", model="m")
    assert [call.method for call in server.received] == ["CreateSession"]
    assert server.of("CreateSession")[0].get_or_create
    session = await colour.call(client.get_or_create_session, "s")
    assert [call.method for call in server.received] == [
        "CreateSession",
        "CreateSession",
        "ResumeSession",
    ]
    assert session.info.status == "active"


async def test_resuming_a_missing_session_is_a_runtime_error(colour, server, client) -> None:
    server.on(
        "ResumeSession", server.abort(grpc.StatusCode.NOT_FOUND, "no", reason="SESSION_NOT_FOUND")
    )
    with pytest.raises(RuntimeError, match="SESSION_NOT_FOUND"):
        await colour.call(client.resume_session, "s")


async def test_the_lifecycle_of_a_handle(colour, server, client) -> None:
    server.on("ResumeSession", ACTIVE)
    server.on("GetSession", ACTIVE)
    server.on("DestroySession", DESTROYED)
    server.on("DeleteSession", DeleteSessionResponse())
    server.on(
        "GetMessage",
        message_pb2.Message(
            seq=2,
            role=message_pb2.ROLE_USER,
            json='{"content":"x"}',
            format=message_pb2.FORMAT_OPENAI,
        ),
    )
    session = await colour.call(client.resume_session, "s")
    assert (await colour.call(session.refresh)).last_seq == 2
    message = await colour.call(session.get_message, 2)
    assert (message.id, message.content) == ("s/2", "x")
    await colour.call(session.destroy)
    assert session.info.status == "destroyed"
    await colour.call(session.resume)
    assert session.info.status == "active"
    await colour.call(session.delete, etag="e", allow_missing=True)
    sent = server.of("DeleteSession")[0]
    assert (sent.session_id, sent.etag, sent.allow_missing) == ("s", "e", True)


async def test_delete_by_id(colour, server, client) -> None:
    server.on("DeleteSession", DeleteSessionResponse())
    assert await colour.call(client.delete_session, "id") is None
    assert server.of("DeleteSession")[0].session_id == "id"


async def test_update_masks_the_changed_fields(colour, server, client) -> None:
    server.on("GetSession", ACTIVE)
    server.on("UpdateSession", ACTIVE)
    session = await colour.call(client.get_session, "s")
    await colour.call(
        session.update, title="", metadata={}, metadata_patch=None, idle_ttl=5, etag="e"
    )
    await colour.call(session.update, metadata_patch={"gone": None}, config_patch={"a": 1})
    await colour.call(session.update, never_expires=True)
    clearing, patching, forever = server.of("UpdateSession")
    assert list(clearing.update_mask.paths) == ["title", "metadata", "idle_ttl"]
    assert clearing.session.idle_ttl.seconds == 5
    assert clearing.etag == "e"
    assert not patching.HasField("update_mask")
    assert from_struct(patching.metadata_patch) == {"gone": None}
    assert from_struct(patching.config_patch) == {"a": 1}
    assert list(forever.update_mask.paths) == ["never_expires"]


async def test_export(colour, server, client) -> None:
    message = message_pb2.Message(
        seq=1,
        role=message_pb2.ROLE_USER,
        json='{ "role":"user","content":"ü"}',
        format=message_pb2.FORMAT_OPENAI,
    )
    second = message_pb2.Message()
    second.CopyFrom(message)
    second.seq = 2
    empty = session_pb2.Session(session_id="empty")
    server.on(
        "ExportSession",
        [
            ExportSessionResponse(session=ACTIVE),
            ExportSessionResponse(messages=[message, second]),
        ],
        [ExportSessionResponse(session=empty)],
    )
    exported = json.loads(json.dumps(await colour.call(client.sessions.export, "s")))
    assert exported["session"]["session_id"] == "s"
    assert exported["messages"][0]["json"] == message.json
    assert exported["messages"][0]["content"] == "ü"
    assert (await colour.call(client.sessions.export, "empty"))["messages"] == []
    assert [call.method for call in server.received] == ["ExportSession"] * 2


async def test_listing_filters(colour, server, client) -> None:
    server.on(
        "ListSessions",
        server.abort(grpc.StatusCode.INVALID_ARGUMENT, "stop", reason="INVALID_FIELD"),
    )
    since = datetime(2026, 1, 1, tzinfo=UTC)
    listing = client.list_sessions(
        session_id_prefix="p",
        status="destroyed",
        model="m",
        config_contains={"a": 1},
        metadata_contains={},
        created_from=since,
        active_before=since,
        order="created_asc",
    )
    with pytest.raises(InvalidField):
        await colour.collect(listing)
    sent = server.of("ListSessions")[0]
    assert sent.order == SESSION_ORDER_CREATED_ASC
    chosen = sent.filter
    assert (chosen.session_id_prefix, chosen.status, chosen.model) == (
        "p",
        session_pb2.SESSION_STATUS_DESTROYED,
        "m",
    )
    assert chosen.HasField("metadata_contains")
    assert from_struct(chosen.config_contains) == {"a": 1}
    assert chosen.created_from.seconds == chosen.active_before.seconds == int(since.timestamp())
    assert not chosen.HasField("created_before")


async def test_context_managers(server) -> None:
    server.on("GetSession", ACTIVE)
    async with AsyncClient(server.target) as client:
        assert (await client.get_session("s")).session_id == "s"
    with pytest.raises(errors.ClientClosed):
        await client.get_session("s")
