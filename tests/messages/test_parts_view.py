"""Messages of any format can be read as typed parts."""

import json
from typing import Any

from sessiond import AsyncClient
from sessiond.v1 import message_pb2
from sessiond.v1.session_service_pb2 import MESSAGE_VIEW_PARTS, GetMessagesRequest
from sessiond_server.server import Running

from ..support.wire import Wire

PNG = "iVBORw0KGgo="
HISTORY: list[tuple[str | None, dict[str, Any]]] = [
    ("openai", {"role": "user", "content": "Is it warm?"}),
    (
        "openai",
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "t", "arguments": '{"a": 1}'}}
            ],
        },
    ),
    ("openai", {"role": "tool", "tool_call_id": "c1", "content": "21"}),
    (
        "anthropic",
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
                {"type": "tool_use", "id": "t1", "name": "t", "input": {"b": 2}},
            ],
        },
    ),
    (
        "anthropic",
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "no", "is_error": True},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                },
            ],
        },
    ),
    ("gemini", {"role": "model", "parts": [{"text": "Warm."}]}),
    ("openai", {"type": "web_search_call", "id": "ws_1", "status": "completed"}),
]


def shown(message: message_pb2.Message) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for part in message.parts.parts:
        match part.WhichOneof("kind"):
            case "tool_call":
                call = part.tool_call
                found.append(("call", (call.call_id, call.name, json.loads(call.arguments_json))))
            case "tool_result":
                result = part.tool_result
                texts = [inner.text for inner in result.parts]
                found.append(("result", (result.call_id, texts, result.is_error)))
            case "reasoning":
                reasoning = part.reasoning
                found.append(("reasoning", (reasoning.text, reasoning.signature)))
            case "image":
                found.append(("image", (part.image.media_type, part.image.inline[:4])))
            case "data":
                found.append(("data", json.loads(part.data)["type"]))
            case _:
                found.append(("text", part.text))
    return found


async def test_each_format_is_read_as_typed_parts(server: Running) -> None:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        session = await client.create_session()
        for format, message in HISTORY:
            await session.store_message(message, format, metadata={"a": 1})
        messages = await session.get_messages(view="parts")
        assert [shown(message.proto) for message in messages] == [
            [("text", "Is it warm?")],
            [("text", "I look."), ("call", ("c1", "t", {"a": 1}))],
            [("result", ("c1", ["21"], False))],
            [("reasoning", ("Hm.", b"c2ln")), ("call", ("t1", "t", {"b": 2}))],
            [("result", ("t1", ["no"], True)), ("image", ("image/png", b"\x89PNG"))],
            [("text", "Warm.")],
            [("data", "web_search_call")],
        ]
        full = await session.get_messages()
        for message, stored in zip(messages, full, strict=True):
            assert (message.format, message.metadata) == (None, {"a": 1})
            assert (message.seq, message.role, message.created_at, message.token_count) == (
                stored.seq,
                stored.role,
                stored.created_at,
                stored.token_count,
            )
        assert [m.seq for m in await session.get_messages(view="parts", order="desc", limit=2)] == [
            7,
            6,
        ]


async def test_typed_parts_and_metadata_stay_as_they_are(server: Running) -> None:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        session = await client.create_session()
        stored = message_pb2.Message(
            role=message_pb2.ROLE_USER,
            parts=message_pb2.Parts(parts=[message_pb2.Part(data='{"b":  1}')]),
        )
        await session.store_messages([stored])
        [read] = await session.get_messages(view="parts")
        [full] = await session.get_messages()
        assert read == full


async def test_an_unknown_format_has_no_parts(server: Running) -> None:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        session = await client.create_session()
        await session.store_message({"a": 1}, "other", format_name="no-such-program")
        [read] = await session.get_messages(view="parts")
        assert (read.role, list(read.proto.parts.parts)) == ("other", [])


async def test_a_read_goes_on_after_any_batch_in_its_own_view(server: Running, wire: Wire) -> None:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        session = await client.create_session()
        text = "x" * 20_000
        await session.store_messages([{"role": "user", "content": text}] * 200)
    request = GetMessagesRequest(session_id=session.session_id, view=MESSAGE_VIEW_PARTS)
    stream = wire.sessions.GetMessages(request)
    first = await stream.read()
    stream.cancel()
    request.resume_token = first.resume_token
    seqs = [message.seq for message in first.messages]
    async for response in wire.sessions.GetMessages(request):
        assert all(m.parts.parts[0].text == text for m in response.messages)
        seqs += [message.seq for message in response.messages]
    assert seqs == list(range(1, 201))
