"""Messages, sessions and other results as values, without a server."""

import json
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct

from sessiond import Event, InvalidField, Message, NewMessage, SessionInfo, StoredRange, TokenCounts
from sessiond._protocol.status import error_of, is_worth_retrying
from sessiond._protocol.structs import fill_struct
from sessiond._protocol.times import to_duration, to_timestamp
from sessiond._requests.input import add_batch, to_proto
from sessiond.compat.copilot import SessionMetadata
from sessiond.errors import ServerUnavailable
from sessiond.v1 import event_pb2, message_pb2, session_pb2
from sessiond.v1.session_service_pb2 import StoreMessagesRequest


def read(blob: Any, format: str = "openai", **fields: Any) -> Message:
    pb = to_proto(blob, format, "m")
    return Message(
        "s",
        message_pb2.Message(
            seq=4, role=message_pb2.ROLE_USER, json=pb.json, format=pb.format, **fields
        ),
    )


def test_a_message_by_attribute_and_by_key() -> None:
    metadata = Struct()
    fill_struct(metadata, {"n": 1}, "metadata")
    created = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    message = read(
        {"role": "user", "content": "x"},
        create_time=to_timestamp(created, "t"),
        metadata=metadata,
        content_bytes=29,
    )
    assert (message.id, message.seq, message.role, message.type) == (
        "s/4",
        4,
        "user",
        "user.message",
    )
    assert (message["id"], message["seq"], message["role"], message["type"]) == (
        "s/4",
        4,
        "user",
        "user.message",
    )
    assert message["content"] == "x"
    assert message.created_at == message["created_at"] == created
    assert message["createdAt"] == "2026-01-02T03:04:05.678901Z"
    assert message["contentBytes"] == message.content_bytes == 29
    assert message.metadata == {"n": 1}
    assert message.parent_seq is None
    assert message.get("nothing") is None
    with pytest.raises(KeyError):
        message["nothing"]
    assert dict(message)["json"] == message.json
    assert repr(message) == "Message(id='s/4', role='user', content='x')"
    assert pickle.loads(pickle.dumps(message)) == message  # noqa: S301
    json.dumps(message.to_dict())


def test_a_message_without_its_content() -> None:
    message = Message(
        "s",
        message_pb2.Message(seq=1, role=message_pb2.ROLE_TOOL, format=message_pb2.FORMAT_OPENAI),
    )
    assert (message.content, message.json, message.blob, message.role) == ("", "", {}, "tool")


def test_typed_parts() -> None:
    part = message_pb2.Part
    parts = [
        part(text="a"),
        part(image=message_pb2.Blob(media_type="image/png", inline=b"\x00")),
        part(file=message_pb2.Blob(uri="https://x/y", name="y")),
        part(audio=message_pb2.Blob(asset_id="a" * 64)),
        part(tool_call=message_pb2.ToolCall(call_id="c", name="f", arguments_json="{}")),
        part(
            tool_result=message_pb2.ToolResult(call_id="c", parts=[part(text="r")], is_error=True)
        ),
        part(reasoning=message_pb2.Reasoning(text="hm", signature=b"\x01")),
        part(data='{"x":1}'),
        part(text="b"),
    ]
    pb = to_proto(
        NewMessage(parts=parts, role="assistant", metadata={"k": 1}, parent_seq=3), "openai", "m"
    )
    assert (pb.role, pb.format, pb.parent_seq) == (
        message_pb2.ROLE_ASSISTANT,
        message_pb2.FORMAT_UNSPECIFIED,
        3,
    )
    message = Message("s", pb)
    assert message.content == "ab"
    assert message.format is None
    kinds = [p["type"] for p in message.blob["parts"]]
    assert kinds == [
        "text",
        "image",
        "file",
        "audio",
        "tool_call",
        "tool_result",
        "reasoning",
        "data",
        "text",
    ]
    assert message.blob["parts"][1]["inline"] == "AA=="
    assert message.blob["parts"][2]["uri"] == "https://x/y"
    assert message.blob["parts"][3] == {
        "type": "audio",
        "media_type": "",
        "name": "",
        "asset_id": "a" * 64,
    }
    assert json.loads(message.json) == message.blob
    assert json.loads(json.dumps(message.to_dict()))["parts"] == message.blob["parts"]


@pytest.mark.parametrize(
    "text", ['{ "content":"ü",  "role" :"user", "n": 1.0e2 }', '{"role":"user"}\n']
)
def test_json_text_stays_as_it_is(text: str) -> None:
    assert to_proto(text, "openai", "m").json == text
    assert to_proto(text.encode(), "anthropic", "m").json == text
    assert (
        to_proto(NewMessage(text, format="gemini"), "openai", "m").format
        == message_pb2.FORMAT_GEMINI
    )


def test_dicts_are_written_compact_and_readable() -> None:
    assert (
        to_proto({"role": "user", "content": "ü"}, "openai", "m").json
        == '{"role":"user","content":"ü"}'
    )


def test_a_message_that_was_read_is_stored_with_its_exact_content() -> None:
    pb = message_pb2.Message(
        seq=9,
        role=message_pb2.ROLE_USER,
        json='{ "role":"user"}',
        format=message_pb2.FORMAT_OPENAI,
        parent_seq=4,
        content_bytes=16,
    )
    again = to_proto(Message("s", pb), "anthropic", "m")
    assert again == message_pb2.Message(role=pb.role, json=pb.json, format=pb.format)
    assert to_proto(pb, "anthropic", "m") == pb


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"role": "user", "content": {1, 2}}, "messages[1].content"),
        ({"role": "user", "content": float("nan")}, "messages[1].content"),
        (b"\xff", "messages[1].json"),
        (7, "messages[1]"),
        (NewMessage(), "messages[1]"),
        (NewMessage({"role": "user"}, parts=[message_pb2.Part(text="x")]), "messages[1]"),
        (NewMessage(parts=[message_pb2.Part(text="x")], role="king"), "messages[1].role"),
        (NewMessage({"role": "user"}, metadata={"n": 2**60}), "messages[1].metadata.n"),
        (NewMessage({"role": "user"}, parent_seq=2**70), "messages[1].parent_seq"),
        (NewMessage({"role": "user"}, format="cohere"), "format"),
    ],
)
def test_messages_that_cannot_be_sent_are_refused_by_name(message: Any, field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        add_batch(StoreMessagesRequest().messages, [{"role": "user"}, message], "openai")
    assert caught.value.field_violations[0].field == field


@pytest.mark.parametrize(
    "single", [{"role": "user"}, '{"role":"user"}', b"{}", NewMessage("{}"), message_pb2.Message()]
)
def test_a_single_message_is_not_a_list(single: Any) -> None:
    with pytest.raises(InvalidField, match="store_message takes a single one"):
        add_batch(StoreMessagesRequest().messages, single, "openai")


def test_a_session_by_attribute_and_by_key() -> None:
    created, active = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    pb = session_pb2.Session(
        session_id="s",
        status=session_pb2.SESSION_STATUS_DESTROYED,
        summary="Hello",
        last_seq=3,
        message_count=3,
        create_time=to_timestamp(created, "t"),
        active_time=to_timestamp(active, "t"),
        idle_ttl=to_duration(60, "t"),
        expire_time=to_timestamp(active + timedelta(seconds=60), "t"),
    )
    fill_struct(pb.config, {"temperature": 0.5}, "config")
    info = SessionInfo(pb)
    assert info.session_id == info["session_id"] == info["sessionId"] == "s"
    assert info.status == "destroyed"
    assert info.start_time == info["start_time"] == created
    assert info["startTime"] == "2026-01-01T00:00:00Z"
    assert info["modifiedTime"] == "2026-01-02T00:00:00Z"
    assert (info.idle_ttl, info["idleTtl"], info.never_expires) == (
        timedelta(seconds=60),
        60.0,
        False,
    )
    assert info.expires_at == active + timedelta(seconds=60)
    assert info.get("summary", "none") == "Hello"
    assert info.config == {"temperature": 0.5}
    assert json.loads(json.dumps(info.to_dict()))["modified_time"] == "2026-01-02T00:00:00Z"
    assert pickle.loads(pickle.dumps(info)) == info  # noqa: S301
    assert "sessionId" in info


def test_equal_records_hash_alike_and_equal_their_mapping() -> None:
    pb = session_pb2.Session(session_id="s", last_seq=3)
    info, again = SessionInfo(pb), SessionInfo(session_pb2.Session(session_id="s", last_seq=3))
    assert (info, hash(info)) == (again, hash(again))
    assert info == dict(info)
    assert info != SessionInfo(session_pb2.Session(session_id="s", last_seq=4))
    assert repr(info) == "SessionInfo(session_id='s', status='unknown', last_seq=3)"


def test_an_event_as_a_dict_is_plain_data() -> None:
    event = Event(event_pb2.Event(type="session.idle", session_id="s"))
    fill_struct(event.proto.data, {"turn_id": "t"}, "data")
    value = event.to_dict()
    assert type(value["data"]) is dict
    assert json.loads(json.dumps(value)) == {
        "type": "session.idle",
        "seq": None,
        "session_id": "s",
        "time": "1970-01-01T00:00:00Z",
        "message": None,
        "data": {"turn_id": "t"},
        "epoch": 0,
    }


def test_get_gives_an_empty_value_as_a_mapping_does() -> None:
    info = SessionInfo(session_pb2.Session(session_id="s"))
    assert info.get("summary", "No summary") == ""
    assert info.get("expires_at", "never") is None
    assert info.get("last_seq", 7) == 0
    assert info.get("nothing", "x") == "x"
    assert info.never_expires


def test_the_copilot_sdk_leaves_out_empty_fields() -> None:
    info = SessionMetadata(session_pb2.Session(session_id="s"))
    assert info.get("summary", "No summary") == "No summary"
    assert info.get("expiresAt", "never") == "never"
    assert info.get("lastSeq", 7) == 0
    assert info.get("nothing", "x") == "x"
    assert info["summary"] == ""


def test_a_stored_range_iterates_over_its_seqs() -> None:
    stored = StoredRange(3, 5, datetime.now(UTC))
    assert list(stored) == [3, 4, 5]
    assert len(stored) == 3
    assert 4 in stored
    assert 6 not in stored


def test_an_answer_that_grpc_lost_is_worth_retrying() -> None:
    class Lost(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.INTERNAL

        def details(self) -> str:
            return "Internal error from Core"

        def trailing_metadata(self) -> tuple[()]:
            return ()

    error = error_of(Lost(), "here")
    assert isinstance(error, ServerUnavailable)
    assert is_worth_retrying(error)


def test_token_counts_say_whether_they_are_an_estimate() -> None:
    assert TokenCounts(10, 3, "o200k_base", 2).is_estimate
    assert not TokenCounts(10, 0, "o200k_base", 2).is_estimate


def test_a_lone_surrogate_within_a_batch() -> None:
    """Protobuf refuses the unescaped text, and must not keep a half-written message."""
    request = StoreMessagesRequest()
    add_batch(
        request.messages,
        [{"role": "user", "content": "a"}, {"role": "user", "content": "\ud83d"}, {"role": "user"}],
        "openai",
    )
    assert [message.json for message in request.messages] == [
        '{"role":"user","content":"a"}',
        '{"role":"user","content":"\\ud83d"}',
        '{"role":"user"}',
    ]
