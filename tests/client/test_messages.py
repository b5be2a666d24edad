"""The calls that store, import and read messages."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond import AsyncClient, Client, InvalidField, NewMessage, errors
from sessiond._async._messages import ENCODED_MESSAGES
from sessiond._protocol.structs import from_struct
from sessiond.v1 import message_pb2, session_pb2
from sessiond.v1.session_service_pb2 import (
    ImportMessagesRequest,
    ImportMessagesResponse,
    StoreMessagesResponse,
)

ACTIVE = session_pb2.Session(session_id="s", status=session_pb2.SESSION_STATUS_ACTIVE, last_seq=2)
STORED = StoreMessagesResponse(first_seq=3, last_seq=4, create_time=Timestamp(seconds=1))
IMPORTED = ImportMessagesResponse(first_seq=1, last_seq=9)
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


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
    assert caught.value.field_violations[0].field == f"messages[{ENCODED_MESSAGES}].content"
    assert server.of("StoreMessages") == []


async def test_store_message_with_metadata_and_parent(colour, server, client) -> None:
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
    """The client sends the message, so that the server refuses it."""
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


async def test_an_import_that_the_server_ends_early_raises_its_error(
    colour, server, client
) -> None:
    refusal = server.abort(
        grpc.StatusCode.FAILED_PRECONDITION, "destroyed", reason="SESSION_DESTROYED"
    )
    server.refuse_uploads = refusal
    source = ({"role": "user", "content": "x" * 50_000} for _ in range(1000))
    # grpc.aio may lose a response that arrives during a write (github.com/grpc/grpc/issues/36066).
    # The client then raises ServerUnavailable. This is rare with the real server, which reads on
    # for a while before it refuses. The fake server refuses at once.
    expected = (
        (errors.SessionDestroyed, errors.ServerUnavailable)
        if colour.is_async
        else errors.SessionDestroyed
    )
    with pytest.raises(expected):
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
def test_bad_read_options_raise_at_once(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidField):
        Client("nowhere.invalid:1").sessions.get_messages("s", **arguments)
