"""The calls of client.sessions, of handles and of client.admin: what they ask for, and what they answer."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond import AsyncClient, Client, InvalidField, NewMessage, errors
from sessiond._async._messages import ENCODED_MESSAGES
from sessiond._protocol.structs import from_struct
from sessiond.v1 import admin_service_pb2, message_pb2, session_pb2
from sessiond.v1.bookmark_service_pb2 import ListBookmarksResponse
from sessiond.v1.session_service_pb2 import (
    SESSION_ORDER_CREATED_ASC,
    DeleteSessionResponse,
    GetMessagesResponse,
    ImportMessagesRequest,
    ImportMessagesResponse,
    StoreMessagesResponse,
)
from sessiond.v1.task_service_pb2 import ListTasksResponse

ACTIVE = session_pb2.Session(session_id="s", state=session_pb2.SESSION_STATE_ACTIVE, last_seq=2)
DESTROYED = session_pb2.Session(session_id="s", state=session_pb2.SESSION_STATE_DESTROYED)
STORED = StoreMessagesResponse(first_seq=3, last_seq=4, create_time=Timestamp(seconds=1))
IMPORTED = ImportMessagesResponse(first_seq=1, last_seq=9)
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


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
    assert session.info.state == "active"
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
async def test_what_cannot_be_sent_is_not_sent(
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
        ("send", {"session_id": "s"}),
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
    assert session.info.state == "active"


async def test_resuming_what_is_not_there_is_a_runtime_error(colour, server, client) -> None:
    server.on(
        "ResumeSession", server.abort(grpc.StatusCode.NOT_FOUND, "no", reason="SESSION_NOT_FOUND")
    )
    with pytest.raises(RuntimeError, match="SESSION_NOT_FOUND"):
        await colour.call(client.resume_session, "s")


async def test_a_handle_goes_through_a_life(colour, server, client) -> None:
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
    assert session.info.state == "destroyed"
    await colour.call(session.resume)
    assert session.info.state == "active"
    await colour.call(session.delete, etag="e", allow_missing=True)
    sent = server.of("DeleteSession")[0]
    assert (sent.session_id, sent.etag, sent.allow_missing) == ("s", "e", True)


async def test_delete_by_id(colour, server, client) -> None:
    server.on("DeleteSession", DeleteSessionResponse())
    assert await colour.call(client.delete_session, "id") is None
    assert server.of("DeleteSession")[0].session_id == "id"


async def test_update_names_what_it_changes(colour, server, client) -> None:
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


async def test_store_messages_as_written_in_the_docs(colour, server, client) -> None:
    server.on("StoreMessages", STORED)
    messages = [{"role": "user", "content": "a"}, '{"role": "assistant"}']
    stored = await colour.call(
        client.sessions.store_messages, session_id="s", messages=messages, format="openai"
    )
    assert list(stored) == [3, 4]
    assert stored.create_time == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    sent = server.of("StoreMessages")[0]
    assert [m.json for m in sent.messages] == [
        '{"role":"user","content":"a"}',
        '{"role": "assistant"}',
    ]
    assert {m.format for m in sent.messages} == {message_pb2.FORMAT_OPENAI}
    assert not sent.HasField("expected_last_seq")


@pytest.mark.parametrize("count", [ENCODED_MESSAGES - 1, ENCODED_MESSAGES, 3 * ENCODED_MESSAGES])
async def test_few_and_many_messages_are_sent_alike(colour, server, client, count: int) -> None:
    server.on("StoreMessages", STORED)
    messages = ({"role": "user", "content": f"é {i}"} for i in range(count))
    await colour.call(
        client.sessions.store_messages,
        "s",
        messages,
        format="gemini",
        expected_last_seq=0,
        request_id="r",
    )
    [sent] = server.of("StoreMessages")
    assert (
        sent.session_id,
        sent.expected_last_seq,
        sent.HasField("expected_last_seq"),
        sent.request_id,
    ) == ("s", 0, True, "r")
    assert [m.json for m in sent.messages] == [
        f'{{"role":"user","content":"é {i}"}}' for i in range(count)
    ]
    assert {m.format for m in sent.messages} == {message_pb2.FORMAT_GEMINI}


async def test_many_messages_are_sent_again_where_that_is_safe(colour, server, client) -> None:
    server.on("StoreMessages", server.abort(UNAVAILABLE, "away"), STORED)
    stored = await colour.call(
        client.sessions.store_messages, "s", [{"role": "user"}] * ENCODED_MESSAGES
    )
    assert list(stored) == [3, 4]
    first, second = server.of("StoreMessages")
    assert first == second
    assert first.request_id


async def test_one_of_many_that_cannot_be_sent_is_named(colour, server, client) -> None:
    messages = [{"role": "user"}] * ENCODED_MESSAGES + [{"role": "user", "content": float("nan")}]
    with pytest.raises(InvalidField) as caught:
        await colour.call(client.sessions.store_messages, "s", messages)
    assert caught.value.field_violations[0].field == f"messages[{ENCODED_MESSAGES}].json"
    assert server.of("StoreMessages") == []


async def test_store_message_with_what_belongs_to_it(colour, server, client) -> None:
    server.on("CreateSession", ACTIVE)
    server.on("StoreMessages", STORED)
    session = await colour.call(client.create_session, "s")
    await colour.call(
        session.store_message, {"role": "user"}, format="anthropic", metadata={"k": 1}, parent_seq=1
    )
    sent = server.of("StoreMessages")[0].messages[0]
    assert (sent.format, sent.parent_seq, from_struct(sent.metadata)) == (
        message_pb2.FORMAT_ANTHROPIC,
        1,
        {"k": 1},
    )
    with pytest.raises(InvalidField, match="NewMessage"):
        await colour.call(session.store_message, NewMessage({"role": "user"}), metadata={})


def pieces_of(server: Any) -> list[list[ImportMessagesRequest]]:
    return server.of("ImportMessages")


async def test_import_sends_a_last_message_without_bytes(colour, server, client) -> None:
    """What is wrong with it is the server's to say."""
    server.on("ImportMessages", IMPORTED)
    messages = [{"role": "user", "content": "x" * 300_000}, message_pb2.Message()]
    await colour.call(client.sessions.import_messages, "s", messages)
    (pieces,) = pieces_of(server)
    assert [len(piece.messages) for piece in pieces] == [1, 1]


async def test_import_sends_pieces(colour, server, client) -> None:
    server.on("ImportMessages", IMPORTED)
    count = 2000
    source = ({"role": "user", "content": f"{i} " + "x" * 500} for i in range(count))
    stored = await colour.call(
        client.sessions.import_messages, "s", source, expected_last_seq=0, request_id="r"
    )
    assert (stored.first_seq, stored.last_seq) == (1, 9)
    (pieces,) = pieces_of(server)
    assert len(pieces) > 3
    assert [
        json.loads(m.json)["content"].split()[0] for piece in pieces for m in piece.messages
    ] == [str(i) for i in range(count)]
    assert all(len(piece.SerializeToString()) < 300 * 1024 for piece in pieces)
    assert (
        pieces[0].session_id,
        pieces[0].request_id,
        pieces[0].HasField("expected_last_seq"),
    ) == ("s", "r", True)
    assert all(piece.session_id == "" for piece in pieces[1:])
    assert server.received[0].remaining_s is None or server.received[0].remaining_s > 1e6


async def test_import_takes_async_sources(server) -> None:
    async def source() -> AsyncIterator[dict[str, str]]:
        for _ in range(3):
            yield {"role": "user"}

    server.on("ImportMessages", IMPORTED)
    async with AsyncClient(server.target) as client:
        await client.sessions.import_messages("s", source())
    assert len(pieces_of(server)[0][0].messages) == 3


async def test_an_empty_import_is_the_servers_to_judge(colour, server, client) -> None:
    server.on(
        "ImportMessages",
        server.abort(grpc.StatusCode.INVALID_ARGUMENT, "none", reason="INVALID_FIELD"),
    )
    with pytest.raises(InvalidField):
        await colour.call(client.sessions.import_messages, "s", [])
    assert [piece.session_id for piece in pieces_of(server)[0]] == ["s"]


async def test_a_source_that_raises_makes_the_server_refuse(colour, server, client) -> None:
    def source() -> Iterator[dict[str, str]]:
        for _ in range(2000):
            yield {"role": "user", "content": "x" * 500}
        raise ZeroDivisionError("mine")

    server.on(
        "ImportMessages",
        server.abort(grpc.StatusCode.INVALID_ARGUMENT, "differs", reason="INVALID_FIELD"),
    )
    with pytest.raises(ZeroDivisionError, match="mine"):
        await colour.call(client.sessions.import_messages, "s", source())
    (pieces,) = pieces_of(server)
    assert len(pieces) > 2
    assert pieces[-1] == ImportMessagesRequest(session_id="\0")


async def test_a_bad_message_in_an_import_is_named(colour, server, client) -> None:
    server.on(
        "ImportMessages",
        server.abort(grpc.StatusCode.INVALID_ARGUMENT, "differs", reason="INVALID_FIELD"),
    )
    with pytest.raises(InvalidField) as caught:
        await colour.call(client.sessions.import_messages, "s", [{"role": "user"}, 5])
    assert caught.value.field_violations[0].field == "messages[1]"


async def test_an_import_that_the_server_ends_early_tells_why(colour, server, client) -> None:
    refusal = server.abort(
        grpc.StatusCode.FAILED_PRECONDITION, "destroyed", reason="SESSION_DESTROYED"
    )
    server.refuse_uploads = refusal
    source = ({"role": "user", "content": "x" * 50_000} for _ in range(1000))
    # grpc.aio may lose an answer that comes while a write is under way (github.com/grpc/grpc/issues/36066); what is left to say then is
    # that it is lost. Our server reads on for a while before it refuses, so that this is rare; this one does not.
    told = (
        (errors.SessionDestroyed, errors.ServerUnavailable)
        if colour.is_async
        else errors.SessionDestroyed
    )
    with pytest.raises(told):
        await colour.call(client.sessions.import_messages, "s", source)


async def test_closing_ends_an_import(colour, server, client) -> None:
    arrived = asyncio.Event()

    async def never(requests: Any, context: Any) -> Any:
        arrived.set()
        await asyncio.Event().wait()

    server.on("ImportMessages", never)
    importing = asyncio.ensure_future(
        colour.call(client.sessions.import_messages, "s", [{"role": "user"}])
    )
    await arrived.wait()
    await colour.call(client.stop)
    with pytest.raises(errors.ClientClosed):
        await importing


async def test_a_list_is_imported_again_with_the_same_request_id(
    colour, server, client, impatient
) -> None:
    server.on("ImportMessages", server.abort(UNAVAILABLE, "going"), IMPORTED)
    await colour.call(client.sessions.import_messages, "s", [{"role": "user"}])
    first, second = pieces_of(server)
    assert first == second
    assert first[0].request_id


async def test_a_source_that_is_used_up_is_not_imported_again(
    colour, server, client, impatient
) -> None:
    server.on("ImportMessages", server.abort(UNAVAILABLE, "going"), IMPORTED)
    with pytest.raises(errors.Unavailable):
        await colour.call(client.sessions.import_messages, "s", iter([{"role": "user"}]))
    assert len(server.received) == 1


async def test_export(colour, server, client) -> None:
    message = message_pb2.Message(
        seq=1,
        role=message_pb2.ROLE_USER,
        json='{ "role":"user","content":"ü"}',
        format=message_pb2.FORMAT_OPENAI,
    )
    server.on("GetSession", ACTIVE, session_pb2.Session(session_id="empty"))
    server.on("ListTasks", ListTasksResponse())
    server.on("ListBookmarks", ListBookmarksResponse())
    server.on("GetMessages", [GetMessagesResponse(messages=[message, message])])
    exported = json.loads(json.dumps(await colour.call(client.sessions.export, "s")))
    assert exported["session"]["session_id"] == "s"
    assert exported["messages"][0]["json"] == message.json
    assert exported["messages"][0]["content"] == "ü"
    assert server.of("GetMessages")[0].through_seq == 2
    assert (await colour.call(client.sessions.export, "empty"))["messages"] == []
    assert len(server.of("GetMessages")) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"order": "up"},
        {"view": "all"},
        {"roles": ["king"]},
        {"roles": "user"},
        {"limit": "many"},
        {"after_seq": 2**70},
    ],
)
def test_bad_options_of_a_reading_are_told_at_once(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidField):
        Client("nowhere.invalid:1").sessions.get_messages("s", **arguments)


async def test_listing_filters(colour, server, client) -> None:
    server.on(
        "ListSessions",
        server.abort(grpc.StatusCode.INVALID_ARGUMENT, "stop", reason="INVALID_FIELD"),
    )
    since = datetime(2026, 1, 1, tzinfo=UTC)
    listing = client.list_sessions(
        session_id_prefix="p",
        state="destroyed",
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
    assert (chosen.session_id_prefix, chosen.state, chosen.model) == (
        "p",
        session_pb2.SESSION_STATE_DESTROYED,
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


async def test_admin(colour, server, client) -> None:
    key = admin_service_pb2.ApiKey(
        key_id="k", project="p", label="l", is_admin=True, create_time=Timestamp(seconds=1)
    )
    project = admin_service_pb2.Project(name="p", create_time=Timestamp(seconds=1))
    server.on("CreateProject", project)
    page = admin_service_pb2.ListProjectsResponse
    server.on(
        "ListProjects", page(projects=[project], next_page_token="t"), page(projects=[project])
    )
    server.on("CreateApiKey", admin_service_pb2.CreateApiKeyResponse(key=key, secret="hush"))
    server.on("ListApiKeys", admin_service_pb2.ListApiKeysResponse(keys=[key]))
    revoked = admin_service_pb2.ApiKey(key_id="k", revoke_time=Timestamp(seconds=2))
    server.on("RevokeApiKey", revoked)
    assert (await colour.call(client.admin.create_project, "p")).name == "p"
    assert [p.name for p in await colour.collect(client.admin.list_projects())] == ["p", "p"]
    assert [r.page_token for r in server.of("ListProjects")] == ["", "t"]
    made = await colour.call(client.admin.create_api_key, "p", label="l", is_admin=True)
    assert made.secret == "hush"
    assert "hush" not in repr(made)
    (listed,) = await colour.call(client.admin.list_api_keys, "p")
    assert (listed.key_id, listed.label, listed.is_admin, listed.secret, listed.revoked_at) == (
        "k",
        "l",
        True,
        None,
        None,
    )
    assert (await colour.call(client.admin.revoke_api_key, "k")).revoked_at == datetime(
        1970, 1, 1, 0, 0, 2, tzinfo=UTC
    )
