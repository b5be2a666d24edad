"""FORMAT_OTHER: any program's JSON objects, byte for byte, under the program's name."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from sessiond import AsyncClient, FormatUnreadable, InvalidField, NewMessage, TurnFailed
from sessiond.v1.message_pb2 import (
    FORMAT_OPENAI,
    FORMAT_OTHER,
    ROLE_OTHER,
    ROLE_USER,
    Message,
    Part,
    Parts,
)
from sessiond_server.formats.pieces import Entry, Text
from sessiond_server.formats.read.other import READERS
from sessiond_server.server import Running

from ..support.wire import Wire, error_of

ODD = [
    '{"type":"user","uuid":"4","message":{"role":"user","content":"hi"}}',
    '{ "z" : 1,\n"a": {"b": [1, 2.50, 1E5, 12345678901234567890123]} }',
    '{"role":"nobody","parts":7,"\\u0000":"\\ud83d sessiond-asset:' + "0" * 64 + '"}',
    "{}",
]


def other(text: str, name: str = "our-agent", **fields: object) -> Message:
    return Message(format=FORMAT_OTHER, format_name=name, json=text, **fields)  # type: ignore[arg-type]


async def test_any_object_comes_back_byte_for_byte(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", *map(other, ODD[:2]), other(ODD[2], "é ☕", role=ROLE_USER))
    await wire.import_("one", [[other(ODD[3], message_id="m")]])
    messages = await wire.read("one")
    assert [message.json for message in messages] == ODD
    assert [message.role for message in messages] == [ROLE_OTHER, ROLE_OTHER, ROLE_USER, ROLE_OTHER]
    assert [message.format_name for message in messages] == [
        "our-agent",
        "our-agent",
        "é ☕",
        "our-agent",
    ]
    for message in messages:
        assert (message.format, message.token_count, message.tokens_estimated) == (
            FORMAT_OTHER,
            0,
            True,
        )
        assert message.content_bytes == len(message.json.encode())
        assert await wire.message("one", message.seq) == message
    assert [m.seq for m in await wire.read("one", roles=[ROLE_OTHER])] == [1, 2, 4]
    session = await wire.get("one")
    assert (session.summary, session.token_count) == ("", 0)
    await wire.copy("one", "two")
    assert await wire.read("two") == messages


@pytest.mark.parametrize(
    ("message", "field", "reason"),
    [
        (other("{}", ""), "format_name", "INVALID_FIELD"),
        (other("{}", "x" * 65), "format_name", "INVALID_FIELD"),
        (other("{}", "a\nb"), "format_name", "INVALID_FIELD"),
        (other("[]"), "json", "INVALID_JSON"),
        (other("{"), "json", "INVALID_JSON"),
        (other('{"a":' + "[" * 200 + "]" * 200 + "}"), "json", "INVALID_JSON"),
        (other("{}", role=99), "role", "UNKNOWN_ROLE"),
        (
            Message(format=FORMAT_OPENAI, format_name="x", json='{"role":"user","content":"a"}'),
            "format_name",
            "INVALID_FIELD",
        ),
        (
            Message(role=ROLE_USER, format_name="x", parts=Parts(parts=[Part(text="a")])),
            "format_name",
            "INVALID_FIELD",
        ),
        (
            Message(role=ROLE_OTHER, parts=Parts(parts=[Part(text="a")])),
            "role",
            "UNKNOWN_ROLE",
        ),
    ],
)
async def test_what_is_wrong_is_named(
    wire: Wire, message: Message, field: str, reason: str
) -> None:
    await wire.create("one")
    error = await error_of(wire.store("one", "a", message))
    assert error.code == grpc.StatusCode.INVALID_ARGUMENT
    assert (error.reason, list(error.fields)) == (reason, [f"messages[1].{field}"])


@contextmanager
def reader(name: str) -> Iterator[None]:
    """Teach the server to read messages of a format: their key "say" is text."""

    def read(entry: Entry) -> Iterator[Entry]:
        entry.role = ROLE_USER
        entry.pieces.append(Text(entry.value["say"]))
        yield entry

    READERS[name] = read
    try:
        yield
    finally:
        del READERS[name]


async def test_turns_fail_until_the_server_can_read_the_format(server: Running) -> None:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        session = await client.create_session("one", model="echo")
        messages = [{"say": "hello there"}, NewMessage({"say": "b"}, role="user")]
        await session.store_messages(messages, format="other", format_name="talk")
        with pytest.raises(FormatUnreadable) as caught:
            await session.send_and_wait("hi")
        error = caught.value
        assert isinstance(error, TurnFailed)
        assert error.turn_id
        assert error.code == grpc.StatusCode.FAILED_PRECONDITION
        assert (error.metadata["format_name"], error.metadata["seq"]) == ("talk", "1")
        assert error.metadata["session_id"] == "one"
        with reader("talk"):
            answer = await session.send_and_wait("ho")
            assert answer.content.endswith("ho")
            [again] = [
                message
                async for message in session.get_messages(
                    after_seq=(
                        await session.store_messages(messages[:1], format_name="talk")
                    ).first_seq
                    - 1
                )
            ]
            assert again.token_count > 0


async def test_the_client_stores_and_shows_them(server: Running) -> None:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        session = await client.create_session("one")
        await session.store_messages([{"a": 1}, ODD[1]], format="other", format_name="ours")
        await session.import_messages(
            [NewMessage(ODD[0], format_name="ours", role="assistant")], extract_files=True
        )
        many = [{"i": i} for i in range(150)]
        await session.store_messages(many, format="other", format_name="many")
        messages = [message async for message in session.get_messages(limit=4)]
        assert [message.format for message in messages] == ["other"] * 4
        assert [message.format_name for message in messages] == ["ours"] * 3 + ["many"]
        assert [message.role for message in messages] == ["other", "other", "assistant", "other"]
        assert messages[0].type == "other.message"
        assert (messages[1].json, messages[0].blob, messages[0].content) == (ODD[1], {"a": 1}, "")
        with pytest.raises(InvalidField, match="format_name"):
            await session.store_messages([{"a": 1}], format="other")
        exported = await client.sessions.export("one")
        await client.sessions.import_session(exported, "two")
        assert [message async for message in client.sessions.get_messages("two", limit=4)] == [
            type(message)("two", message.proto) for message in messages
        ]
        events = client.sessions.events("one", 0)
        async for event in events:
            assert event.type == "other.message"
            break


CLAUDE_CODE: list[Mapping[str, Any]] = [
    {"type": "summary", "summary": "About tea"},
    {"type": "user", "isMeta": True, "message": {"role": "user", "content": "Caveat: …"}},
    {"type": "user", "message": {"role": "user", "content": "Is there tea?"}},
    {
        "type": "assistant",
        "message": {
            "id": "msg_1",
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "tea"}}
            ],
        },
    },
    {
        "type": "user",
        "message": {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "yes"}],
        },
    },
]


async def test_a_known_format_has_roles_a_summary_tokens_and_turns(server: Running) -> None:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        session = await client.create_session("one", model="echo")
        await session.store_messages(CLAUDE_CODE, format="other", format_name="claude-code")
        messages = await session.get_messages().to_list()
        assert [m.role for m in messages] == ["other", "user", "user", "assistant", "user"]
        assert [m.token_count > 0 for m in messages] == [False, True, True, True, True]
        assert [m.seq for m in await session.get_messages(roles=["assistant"]).to_list()] == [4]
        info = await session.refresh()
        assert (info.summary, info.token_count) == (
            "Is there tea?",
            sum(message.token_count for message in messages),
        )
        answer = await session.send_and_wait("Thanks.")
        assert answer.content == "echo of 5 messages: Thanks."


async def test_the_caller_may_give_another_role(server: Running) -> None:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        session = await client.create_session("one")
        line = NewMessage(CLAUDE_CODE[2], format_name="claude-code", role="developer")
        await session.store_messages([line])
        [message] = await session.get_messages().to_list()
        assert message.role == "developer"


async def test_a_sealed_item_fails_the_turn(server: Running) -> None:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        session = await client.create_session("one", model="echo")
        envelope = {"__enc__": 1, "v": 1, "kid": "one", "payload": "gAAAA"}
        await session.store_messages([envelope], format="other", format_name="openai-agents")
        with pytest.raises(FormatUnreadable) as caught:
            await session.send_and_wait("hi")
        assert (caught.value.metadata["format_name"], caught.value.metadata["seq"]) == (
            "openai-agents",
            "1",
        )
        [message] = await session.get_messages(limit=1).to_list()
        assert (message.role, message.token_count) == ("other", 0)
