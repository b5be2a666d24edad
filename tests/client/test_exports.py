"""An export is one snapshot, even if its stream breaks."""

import json
from typing import Any

import grpc
import pytest

from sessiond.errors import HistoryRewound, SessionNotFound, Unimplemented
from sessiond.v1.bookmark_pb2 import Bookmark
from sessiond.v1.message_pb2 import FORMAT_OPENAI, Message
from sessiond.v1.session_pb2 import Session
from sessiond.v1.session_service_pb2 import ExportSessionResponse, GetMessagesResponse
from sessiond.v1.session_state_pb2 import StatePatch
from sessiond.v1.task_pb2 import Task

SNAPSHOT = ExportSessionResponse(
    session=Session(session_id="s", last_seq=4, epoch=2, etag="log-etag"),
    tasks=[Task(task_id="t", message_seqs=[4])],
    bookmarks=[Bookmark(name="b", seq=4)],
    state_patch=StatePatch(set={"z": "1.0", "a": '"é"'}),
)


def messages(*seqs: int) -> list[Message]:
    text = '{"role":"user","content":"x"}'
    return [Message(seq=seq, json=text, format=FORMAT_OPENAI) for seq in seqs]


async def exported(colour: Any, client: Any) -> list[Any]:
    lines = await colour.collect(client.sessions.export_lines("s"))
    return [json.loads(line) for line in lines]


async def test_one_call_exports_a_session(colour, server, client) -> None:
    server.on("ExportSession", [SNAPSHOT, ExportSessionResponse(messages=messages(1, 2, 3, 4))])
    records = await exported(colour, client)
    assert [call.method for call in server.received] == ["ExportSession"]
    assert [record["kind"] for record in records] == [
        "export",
        "task",
        "bookmark",
        *["message"] * 4,
        "end",
    ]
    assert records[0]["session"]["state_json"] == '{"a":"é","z":1.0}'


@pytest.mark.parametrize(
    "fault",
    [
        (grpc.StatusCode.UNAVAILABLE, "Socket closed"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"),
    ],
)
async def test_a_broken_stream_goes_on_with_the_messages_of_the_snapshot(
    colour, server, client, impatient, fault: tuple[grpc.StatusCode, str]
) -> None:
    server.on(
        "ExportSession",
        server.abort(grpc.StatusCode.UNAVAILABLE, "not yet"),
        [SNAPSHOT, ExportSessionResponse(messages=messages(1, 2)), server.abort(*fault)],
    )
    server.on("GetMessages", [GetMessagesResponse(messages=messages(3, 4))])
    records = await exported(colour, client)
    assert [record["seq"] for record in records if record["kind"] == "message"] == [1, 2, 3, 4]
    [request] = server.of("GetMessages")
    assert (request.after_seq, request.through_seq, request.expected_epoch) == (2, 4, 2)
    assert request.incarnation == SNAPSHOT.session.etag


async def test_a_session_that_is_rewound_or_deleted_meanwhile_is_not_exported_in_part(
    colour, server, client, impatient
) -> None:
    abort = server.abort(grpc.StatusCode.ABORTED, "rewound", reason="HISTORY_REWOUND")
    server.on("ExportSession", [SNAPSHOT, abort])
    server.on("GetMessages", abort)
    with pytest.raises(HistoryRewound):
        await exported(colour, client)
    server.on("GetMessages", [GetMessagesResponse(messages=messages(1, 2))])
    with pytest.raises(SessionNotFound, match="deleted"):
        await exported(colour, client)


async def test_an_older_server_is_a_typed_error(colour, server, client) -> None:
    server.on("ExportSession", server.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!"))
    with pytest.raises(Unimplemented):
        await exported(colour, client)


async def test_the_deadline_covers_the_snapshot(colour, server, client) -> None:
    server.on("ExportSession", [SNAPSHOT, ExportSessionResponse(messages=messages(1, 2, 3, 4))])
    await colour.collect(client.sessions.export_lines("s", timeout=5))
    assert 0 < server.received[0].remaining_s < 6
