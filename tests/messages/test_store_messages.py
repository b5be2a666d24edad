"""StoreMessages: order, atomicity, validation, idempotency."""

import asyncio
import json
from typing import Any

import grpc
import pytest

from sessiond._protocol.raw_messages import raw_class
from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_GEMINI,
    FORMAT_OPENAI,
    ROLE_ASSISTANT,
    ROLE_DEVELOPER,
    ROLE_SYSTEM,
    ROLE_TOOL,
    ROLE_USER,
    Blob,
    Message,
    Part,
    Parts,
    Reasoning,
    ToolCall,
    ToolResult,
)
from sessiond.v1.session_service_pb2 import DESCRIPTOR, BatchStoreMessagesResponse
from sessiond_server.settings import Settings

from ..support.wire import Wire, error_in, error_of, openai

SESSION_SERVICE = DESCRIPTOR.services_by_name["SessionService"]

ODD = [
    '{"role":"user","content":"plain"}',
    '{ "role" : "user",\n\t"content": "spaced" }',
    '{"content":"order","role":"user","z":1,"a":2}',
    '{"role":"user","content":"n","big":12345678901234567890123,"f":1.0,"e":1E5,"neg":-0}',
    '{"role":"user","content":"\\u0000 \\ud83d \\/ \\u00e9 é ☕ 😀"}',
    '{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function",'
    '"function":{"name":"f","arguments":"{\\"a\\": 1}"}}]}',
    '{"role":"user","role":"user","content":"twice"}',
    '{"role":"user","content":[{"type":"text","text":"' + "x" * 20_000 + '"}]}',
]


async def test_json_comes_back_byte_for_byte(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", *(Message(format=FORMAT_OPENAI, json=text) for text in ODD))
    messages = await wire.read("one")
    assert [message.json for message in messages] == ODD
    assert [message.content_bytes for message in messages] == [len(text.encode()) for text in ODD]
    for message in messages:
        assert await wire.message("one", message.seq) == message


async def test_seqs_run_from_one_without_a_gap(wire: Wire) -> None:
    await wire.create("one")
    ranges = [await wire.store("one", *["x"] * n) for n in (1, 3, 2)]
    assert [(r.first_seq, r.last_seq) for r in ranges] == [(1, 1), (2, 4), (5, 6)]
    messages = await wire.read("one")
    assert [m.seq for m in messages] == [1, 2, 3, 4, 5, 6]
    times = [m.create_time.ToNanoseconds() for m in messages]
    assert times == sorted(times)
    assert messages[1].create_time == ranges[1].create_time
    session = await wire.get("one")
    assert (session.last_seq, session.message_count) == (6, 6)
    assert session.content_bytes == sum(m.content_bytes for m in messages)


async def test_parts_come_back_as_they_were(wire: Wire) -> None:
    await wire.create("one")
    parts = [
        Part(text="hello \0 there"),
        Part(image=Blob(media_type="image/png", inline=b"\x89PNG\0")),
        Part(audio=Blob(uri="https://example.org/a.mp3")),
        Part(file=Blob(inline=b"", name="empty.txt")),
        Part(tool_call=ToolCall(call_id="c", name="f", arguments_json='{"a": 1.0}')),
        Part(tool_result=ToolResult(call_id="c", is_error=True, parts=[Part(text="no")])),
        Part(reasoning=Reasoning(text="hm", signature=b"\0\xff")),
        Part(data="[1, 2]"),
    ]
    sent = Message(role=ROLE_ASSISTANT, parts=Parts(parts=parts))
    sent.metadata.update({"trace": "t", "n": 1})
    await wire.store("one", sent)
    [got] = await wire.read("one")
    assert list(got.parts.parts) == parts
    assert got.role == ROLE_ASSISTANT
    assert got.metadata["trace"] == "t"
    assert got.content_bytes == Parts(parts=parts).ByteSize()


@pytest.mark.parametrize(
    ("format_", "value", "role"),
    [
        (FORMAT_OPENAI, {"role": "system", "content": "x"}, ROLE_SYSTEM),
        (FORMAT_OPENAI, {"role": "developer", "content": "x"}, ROLE_DEVELOPER),
        (FORMAT_OPENAI, {"role": "tool", "content": "x"}, ROLE_TOOL),
        (FORMAT_OPENAI, {"role": "function", "content": "x"}, ROLE_TOOL),
        (FORMAT_OPENAI, {"type": "function_call", "name": "f"}, ROLE_ASSISTANT),
        (FORMAT_OPENAI, {"type": "function_call_output", "output": "x"}, ROLE_TOOL),
        (FORMAT_ANTHROPIC, {"role": "assistant", "content": []}, ROLE_ASSISTANT),
        (FORMAT_GEMINI, {"role": "model", "parts": []}, ROLE_ASSISTANT),
        (FORMAT_GEMINI, {"role": "function", "parts": []}, ROLE_TOOL),
        (FORMAT_GEMINI, {"parts": [{"text": "x"}]}, ROLE_USER),
    ],
)
async def test_roles_are_read_from_the_json(
    wire: Wire, format_: int, value: dict[str, object], role: int
) -> None:
    await wire.create("one")
    await wire.store("one", Message(format=format_, json=json.dumps(value)))  # type: ignore[arg-type]
    [message] = await wire.read("one")
    assert message.role == role


def _json(text: str, **fields: object) -> Message:
    return Message(format=FORMAT_OPENAI, json=text, **fields)  # type: ignore[arg-type]


BAD = {
    "no content": (Message(role=ROLE_USER), "INVALID_FIELD", "messages[1]"),
    "no format": (Message(json="{}"), "INVALID_FIELD", "messages[1].format"),
    "unknown format": (Message(json="{}", format=99), "INVALID_FIELD", "messages[1].format"),  # type: ignore[arg-type]
    "not JSON": (_json("{'role': 'user'}"), "INVALID_JSON", "messages[1].json"),
    "empty": (_json(""), "INVALID_JSON", "messages[1].json"),
    "cut": (_json('{"role":"user"'), "INVALID_JSON", "messages[1].json"),
    "NaN": (_json('{"role":"user","content":NaN}'), "INVALID_JSON", "messages[1].json"),
    "NUL": (_json('{"role":"user","content":"\0"}'), "INVALID_JSON", "messages[1].json"),
    "array": (_json('[{"role":"user"}]'), "INVALID_JSON", "messages[1].json"),
    "deep": (
        _json('{"role":"user","content":' + "[" * 100_000 + "]" * 100_000 + "}"),
        "INVALID_JSON",
        "messages[1].json",
    ),
    "no role": (_json('{"content":"x"}'), "UNKNOWN_ROLE", "messages[1].json.role"),
    "odd role": (_json('{"role":"robot"}'), "UNKNOWN_ROLE", "messages[1].json.role"),
    "role is a list": (_json('{"role":["user"]}'), "UNKNOWN_ROLE", "messages[1].json.role"),
    "role differs": (_json('{"role":"user"}', role=ROLE_TOOL), "UNKNOWN_ROLE", "messages[1].role"),
    "role unknown": (_json('{"role":"user"}', role=77), "UNKNOWN_ROLE", "messages[1].role"),
    "gemini's role": (_json('{"role":"model"}'), "UNKNOWN_ROLE", "messages[1].json.role"),
    "too large": (
        _json('{"role":"user","content":"' + "x" * 2**24 + '"}'),
        "MESSAGE_TOO_LARGE",
        "messages[1].json",
    ),
    "no parts": (
        Message(role=ROLE_USER, parts=Parts()),
        "INVALID_FIELD",
        "messages[1].parts.parts",
    ),
    "parts without role": (
        Message(parts=Parts(parts=[Part(text="x")])),
        "UNKNOWN_ROLE",
        "messages[1].role",
    ),
    "parts with format": (
        Message(role=ROLE_USER, format=FORMAT_OPENAI, parts=Parts(parts=[Part(text="x")])),
        "INVALID_FIELD",
        "messages[1].format",
    ),
    "part without kind": (
        Message(role=ROLE_USER, parts=Parts(parts=[Part()])),
        "INVALID_FIELD",
        "messages[1].parts.parts[0]",
    ),
    "blob without source": (
        Message(role=ROLE_USER, parts=Parts(parts=[Part(image=Blob())])),
        "INVALID_FIELD",
        "messages[1].parts.parts[0].image",
    ),
    "call without name": (
        Message(role=ROLE_ASSISTANT, parts=Parts(parts=[Part(tool_call=ToolCall(call_id="c"))])),
        "INVALID_FIELD",
        "messages[1].parts.parts[0].tool_call.name",
    ),
    "arguments no JSON": (
        Message(
            role=ROLE_ASSISTANT,
            parts=Parts(
                parts=[Part(tool_call=ToolCall(call_id="c", name="n", arguments_json="{"))]
            ),
        ),
        "INVALID_JSON",
        "messages[1].parts.parts[0].tool_call.arguments_json",
    ),
    "reasoning of an unknown format": (
        Message(
            role=ROLE_ASSISTANT,
            parts=Parts(parts=[Part(reasoning=Reasoning(text="t", format=99))]),  # type: ignore[arg-type]
        ),
        "INVALID_FIELD",
        "messages[1].parts.parts[0].reasoning.format",
    ),
    "result in result": (
        Message(
            role=ROLE_TOOL,
            parts=Parts(
                parts=[
                    Part(
                        tool_result=ToolResult(
                            call_id="c", parts=[Part(tool_call=ToolCall(call_id="d", name="n"))]
                        )
                    )
                ]
            ),
        ),
        "INVALID_FIELD",
        "messages[1].parts.parts[0].tool_result.parts[0].tool_call",
    ),
    "negative parent": (
        _json('{"role":"user"}', parent_seq=-1),
        "INVALID_FIELD",
        "messages[1].parent_seq",
    ),
    "parent to come": (
        _json('{"role":"user"}', parent_seq=3),
        "PARENT_NOT_FOUND",
        "messages[1].parent_seq",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_message_is_named_and_nothing_is_stored(wire: Wire, name: str) -> None:
    message, reason, field = BAD[name]
    await wire.create("one")
    error = await error_of(wire.store("one", openai("good"), message))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert list(error.fields) == [field]
    assert (await wire.get("one")).last_seq == 0
    assert (await error_of(wire.import_("one", [[openai("good"), message]]))).reason == reason
    assert (await wire.get("one")).last_seq == 0


async def test_metadata_of_a_message_is_checked(wire: Wire) -> None:
    await wire.create("one")
    for value, field in (
        ({"a": "x" * 70_000}, "messages[0].metadata"),
        ({"a": "\0"}, "messages[0].metadata.a"),
    ):
        message = openai("x")
        message.metadata.update(value)
        assert list((await error_of(wire.store("one", message))).fields) == [field]


async def test_batches_above_the_limits_are_refused(wire: Wire) -> None:
    await wire.create("one")
    assert list((await error_of(wire.store("one"))).fields) == ["messages"]
    error = await error_of(wire.store("one", *["x"] * 1001))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "BATCH_TOO_LARGE")
    assert (error.metadata["message_count"], error.metadata["max_messages"]) == ("1001", "1000")
    error = await error_of(wire.store("one", *["x" * 7_000_000] * 5))
    assert error.reason == "BATCH_TOO_LARGE"
    assert error.metadata["max_bytes"] == str(32 * 1024 * 1024)
    assert (await wire.store("one", *["x"] * 1000)).last_seq == 1000


async def test_parents_may_be_in_the_session_or_in_the_batch(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", "1", "2")
    await wire.store(
        "one", _json('{"role":"user"}', parent_seq=1), _json('{"role":"user"}', parent_seq=3)
    )
    assert [m.parent_seq for m in await wire.read("one")] == [0, 0, 1, 3]
    assert (
        await error_of(wire.store("one", _json('{"role":"user"}', parent_seq=5)))
    ).reason == "PARENT_NOT_FOUND"


async def test_expected_last_seq_guards_an_append(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", "1", expected_last_seq=0)
    error = await error_of(wire.store("one", "no", expected_last_seq=0))
    assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "SEQUENCE_CONFLICT")
    assert (error.metadata["expected_last_seq"], error.metadata["last_seq"]) == ("0", "1")
    assert list((await error_of(wire.store("one", "no", expected_last_seq=-1))).fields) == [
        "expected_last_seq"
    ]
    assert (await wire.store("one", "2", expected_last_seq=1)).last_seq == 2


async def test_a_request_id_makes_one_append_of_many(wire: Wire) -> None:
    await wire.create("one")
    first = await wire.store("one", "a", "b", request_id="r")
    assert await wire.store("one", "a", "b", request_id="r") == first
    error = await error_of(wire.store("one", "a", "c", request_id="r"))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
    assert (await wire.get("one")).last_seq == 2


async def test_a_repeated_request_returns_the_first_result_in_any_state(wire: Wire) -> None:
    await wire.create("one")
    first = await wire.store("one", "a", request_id="r", expected_last_seq=0)
    await wire.store("one", "b")
    assert await wire.store("one", "a", request_id="r", expected_last_seq=0) == first
    await wire.destroy("one")
    assert await wire.store("one", "a", request_id="r", expected_last_seq=0) == first


async def test_repetitions_at_once_leave_no_gap(wire: Wire) -> None:
    await wire.create("one")
    answers = await asyncio.gather(*(wire.store("one", "a", request_id="r") for _ in range(20)))
    assert {a.first_seq for a in answers} == {1}
    assert (await wire.store("one", "b")).first_seq == 2


async def test_a_request_id_belongs_to_its_session(wire: Wire) -> None:
    await wire.create("one")
    await wire.create("two")
    await wire.store("one", "a", request_id="r")
    await wire.store("two", "b", request_id="r")
    await wire.delete("one")
    await wire.create("one")
    assert (await wire.store("one", "c", request_id="r")).last_seq == 1


async def test_metadata_in_another_order_is_the_same_request(wire: Wire) -> None:
    await wire.create("one")
    keys = [f"k{i}" for i in range(50)]
    for order in (keys, keys[::-1]):
        message = openai("x")
        for key in order:
            message.metadata[key] = 1
        await wire.store("one", message, request_id="r")
    assert (await wire.get("one")).last_seq == 1


@pytest.fixture
def settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    return settings.model_copy(update=getattr(request, "param", {}))


@pytest.mark.parametrize(
    "settings",
    [{"max_message_bytes": 2000, "max_batch_bytes": 3000, "max_batch_messages": 2}],
    indirect=True,
)
async def test_the_operators_limits_hold(wire: Wire) -> None:
    await wire.create("one")
    assert (await error_of(wire.store("one", "x" * 2000))).reason == "MESSAGE_TOO_LARGE"
    assert (await error_of(wire.store("one", "x" * 1900, "x" * 1900))).reason == "BATCH_TOO_LARGE"
    assert (await error_of(wire.store("one", "x", "x", "x"))).reason == "BATCH_TOO_LARGE"
    await wire.store("one", "x" * 1900)


@pytest.mark.parametrize("name", ["StoreMessages", "BatchStoreMessages", "ImportMessages"])
@pytest.mark.parametrize(
    "encoded",
    [
        b'{"role":"user","content":"\xff"}',
        b'{"role":"user","content":"\xed\xa0\xbd"}',  # half of a surrogate pair
        '{"role":"user","content":"é"}'.encode("latin-1"),
        '{"role":"user"}'.encode("utf-16"),
        '{"role":"user"}'.encode("utf-32"),
        b'\xef\xbb\xbf{"role":"user"}',  # with a byte order mark
    ],
)
async def test_json_that_is_not_utf8_is_refused_by_name(
    wire: Wire, channel: grpc.aio.Channel, name: str, encoded: bytes
) -> None:
    await wire.create("one")
    method = SESSION_SERVICE.methods_by_name[name]
    messages = [{"format": FORMAT_OPENAI, "json": text} for text in (b'{"role":"user"}', encoded)]
    path, request_class = f"/{SESSION_SERVICE.full_name}/{name}", raw_class(method.input_type)
    if name == "BatchStoreMessages":
        request: Any = request_class(requests=[{"session_id": "one", "messages": messages}])
        call = channel.unary_stream(
            path, response_deserializer=BatchStoreMessagesResponse.FromString
        )(request.SerializeToString())
        [response] = [response async for response in call]
        error = error_in(response.results[0])
    else:
        request = request_class(session_id="one", messages=messages)
        encoded_request = request.SerializeToString()
        made = (
            channel.stream_unary(path)(iter([encoded_request]))
            if name == "ImportMessages"
            else channel.unary_unary(path)(encoded_request)
        )
        error = await error_of(made)
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_JSON")
    assert list(error.fields) == ["messages[1].json"]
    assert (await wire.get("one")).last_seq == 0


@pytest.mark.parametrize(
    ("role", "words"), [(0, "is required"), (77, "is 77, which is not a Role")]
)
async def test_a_role_that_is_missing_or_unknown_is_called_so(
    wire: Wire, role: int, words: str
) -> None:
    await wire.create("one")
    message = Message(role=role, parts=Parts(parts=[Part(text="x")]))  # type: ignore[arg-type]
    error = await error_of(wire.store("one", message))
    assert error.reason == "UNKNOWN_ROLE"
    assert words in error.fields["messages[0].role"]
