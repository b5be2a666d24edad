"""Turns and their parts as values: read by attribute and by key, and kept by an export."""

import copy
import json
import pickle
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from sessiond import EventData, Message, MessageTurn, Turn, errors
from sessiond._export.writer import line
from sessiond._protocol.status import is_worth_retrying
from sessiond._protocol.times import to_timestamp
from sessiond._requests.input import to_proto
from sessiond._types.event import Event
from sessiond.v1 import event_pb2, message_pb2, session_pb2, turn_pb2
from sessiond.v1.session_service_pb2 import ExportSessionResponse

USAGE = turn_pb2.Usage(input_tokens=10, output_tokens=4, cached_input_tokens=3, reasoning_tokens=2)
TIMES = [datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC) for second in range(3)]


def test_a_turn_by_attribute_and_by_key() -> None:
    turn = Turn(
        turn_pb2.Turn(
            turn_id="t",
            session_id="s",
            state=turn_pb2.TURN_STATE_FAILED,
            model="m",
            first_seq=3,
            last_seq=4,
            stop_reason="stop",
            usage=USAGE,
            error=turn_pb2.TurnError(
                reason="MODEL_RATE_LIMITED", message="slow down", metadata={"model": "m"}
            ),
            create_time=to_timestamp(TIMES[0], "t"),
            start_time=to_timestamp(TIMES[1], "t"),
            end_time=to_timestamp(TIMES[2], "t"),
        )
    )
    assert (turn.turn_id, turn["turn_id"], turn["turnId"], turn.session_id) == ("t", "t", "t", "s")
    assert (turn.state, turn.model, turn.first_seq, turn.last_seq, turn.stop_reason) == (
        "failed",
        "m",
        3,
        4,
        "stop",
    )
    assert [turn.created_at, turn.started_at, turn.ended_at] == TIMES
    assert turn.usage
    assert turn.error
    assert (turn.usage.input_tokens, turn.usage["outputTokens"]) == (10, 4)
    assert turn.error.metadata["model"] == "m"
    assert json.loads(json.dumps(turn.to_dict())) == {
        "turn_id": "t",
        "session_id": "s",
        "state": "failed",
        "model": "m",
        "first_seq": 3,
        "last_seq": 4,
        "stop_reason": "stop",
        "usage": {
            "input_tokens": 10,
            "output_tokens": 4,
            "cached_input_tokens": 3,
            "reasoning_tokens": 2,
        },
        "error": {
            "reason": "MODEL_RATE_LIMITED",
            "message": "slow down",
            "metadata": {"model": "m"},
        },
        "changes": [],
        "change_count": 0,
        "partial_seq": None,
        "parent_seq": None,
        "created_at": "2026-01-01T00:00:00Z",
        "started_at": "2026-01-01T00:00:01Z",
        "ended_at": "2026-01-01T00:00:02Z",
    }
    assert pickle.loads(pickle.dumps(turn)) == turn  # noqa: S301
    assert repr(turn) == "Turn(turn_id='t', session_id='s', state='failed')"


def test_a_turn_that_waits() -> None:
    turn = Turn(turn_pb2.Turn(turn_id="t", state=turn_pb2.TURN_STATE_QUEUED))
    assert turn.state == "queued"
    assert [
        turn[name] for name in ("first_seq", "last_seq", "usage", "error", "started_at", "ended_at")
    ] == [None] * 6


def test_a_message_of_a_turn() -> None:
    pb = message_pb2.Message(
        seq=4,
        role=message_pb2.ROLE_USER,
        json='{"role":"user","content":"x"}',
        format=message_pb2.FORMAT_OPENAI,
    )
    plain = Message("s", pb)
    assert (plain.id, plain.turn, plain.data.turn_id, plain.data.message_id) == (
        "s/4",
        None,
        None,
        "s/4",
    )
    assert "turn" not in plain.to_dict()
    pb.turn.CopyFrom(turn_pb2.MessageTurn(turn_id="t", message_id="m"))
    sent = Message("s", pb)
    assert (sent.id, sent.data.turn_id, sent["data"]["message_id"]) == ("s/m", "t", "s/m")
    pb.turn.CopyFrom(
        turn_pb2.MessageTurn(
            turn_id="t", model="gpt", provider="openai", stop_reason="stop", usage=USAGE
        )
    )
    answer = Message("s", pb)
    assert isinstance(answer.turn, MessageTurn)
    assert (
        answer.id,
        answer.turn.model,
        answer["turn"]["stopReason"],
        answer.turn.usage.reasoning_tokens,
    ) == ("s/4", "gpt", "stop", 2)
    assert json.loads(json.dumps(answer.to_dict()))["turn"]["usage"]["cached_input_tokens"] == 3
    # The turn belongs to its session, so it is not part of a new message.
    assert not to_proto(answer, "openai", "m").HasField("turn")


def test_the_data_of_an_event() -> None:
    pb = event_pb2.Event(type="assistant.message_delta", session_id="s")
    pb.data.update({"delta_content": "a", "n": 2, "nested": {"x": 1}})
    data = Event(pb).data
    assert isinstance(data, EventData)
    assert (data.delta_content, data["delta_content"], data.n) == ("a", "a", 2)
    assert isinstance(data.n, int)
    assert type(data.nested) is dict
    assert data == {"delta_content": "a", "n": 2, "nested": {"x": 1}}
    with pytest.raises(AttributeError, match="turn_id"):
        _ = data.turn_id
    assert not hasattr(data, "turn_id")
    assert json.loads(json.dumps(data)) == data
    assert copy.deepcopy(data) == pickle.loads(pickle.dumps(data)) == data  # noqa: S301


@pytest.mark.parametrize("cls", [errors.ModelRateLimited, errors.Unavailable, errors.TurnFailed])
def test_the_outcome_of_a_turn_is_not_retried(cls: type[errors.SessiondError]) -> None:
    for message in ("x", "Received RST_STREAM"):
        error = cls(message, metadata={"turn_id": "t"}, retry_after=1.0)
        assert not is_worth_retrying(error)


def test_a_deadline_is_a_timeout() -> None:
    error = errors.DeadlineExceeded("late", metadata={"turn_id": "t"})
    assert isinstance(error, TimeoutError)
    assert (str(error), error.args) == ("DEADLINE_EXCEEDED: late", ("late",))
    assert isinstance(errors.PoolTimeout("x"), TimeoutError)


async def test_an_export_keeps_the_turns_of_messages(colour, server, client) -> None:
    """Exporting an imported session gives the same bytes."""
    turns = [
        None,
        turn_pb2.MessageTurn(turn_id="t", message_id="m"),
        turn_pb2.MessageTurn(
            turn_id="t", model="gpt", provider="openai", stop_reason="stop", usage=USAGE
        ),
        turn_pb2.MessageTurn(turn_id="u", usage=turn_pb2.Usage()),
        turn_pb2.MessageTurn(),
    ]
    stored = []
    for seq, turn in enumerate(turns, 1):
        message = message_pb2.Message(
            seq=seq,
            role=message_pb2.ROLE_USER,
            json=f'{{"n": {seq}}}',
            format=message_pb2.FORMAT_OPENAI,
            turn=turn,
            incomplete=seq == 3,
        )
        message.create_time.seconds = 1_700_000_000 + seq
        stored.append(message)
    session = session_pb2.Session(
        session_id="s", status=session_pb2.SESSION_STATUS_ACTIVE, last_seq=len(stored)
    )
    for time in (session.create_time, session.active_time):
        time.seconds = 1_700_000_000
    server.on("ImportSession", session)

    async def exported(messages: list[message_pb2.Message]) -> list[str]:
        pieces = [
            ExportSessionResponse(session=session),
            ExportSessionResponse(messages=messages),
        ]
        server.on("ExportSession", pieces)
        lines: list[str] = await colour.collect(client.sessions.export_lines("s"))
        return lines

    lines = await exported(stored)
    assert [
        json.loads(text).get("turn", {}).get("turn_id")
        for text in lines
        if '"kind":"message"' in text
    ] == [None, "t", "t", "u", ""]
    await colour.call(client.sessions.import_session, lines)
    (pieces,) = server.of("ImportSession")
    imported = [message for piece in pieces for message in piece.messages]
    assert [message.turn for message in imported] == [message.turn for message in stored]
    assert [message.HasField("turn") for message in imported] == [False, True, True, True, True]
    assert [message.incomplete for message in imported] == [False, False, True, False, False]
    assert await exported(imported) == lines


@pytest.mark.parametrize(
    ("turn", "field"),
    [
        (7, "turn"),
        ({"turn_id": 7}, "turn: turn_id"),
        ({"turn_id": "t", "usage": []}, "turn: usage"),
        ({"usage": {"input_tokens": "many"}}, "turn: usage: input_tokens"),
        ({"usage": {"input_tokens": 2**70}}, "turn: usage: input_tokens"),
    ],
)
async def test_an_export_with_a_broken_turn_is_refused(
    colour, server, client, turn: Any, field: str
) -> None:
    session = {"session_id": "s", "status": "active", "last_seq": 1}
    document = {
        "version": 1,
        "session": session,
        "messages": [{"seq": 1, "role": "user", "format": "openai", "json": "{}", "turn": turn}],
    }
    # The client sends this request so that the server refuses the import.
    server.on(
        "ImportSession",
        server.abort(grpc.StatusCode.INVALID_ARGUMENT, "no", reason="INVALID_FIELD"),
    )
    with pytest.raises(errors.InvalidField) as caught:
        await colour.call(client.sessions.import_session, document)
    assert caught.value.field_violations[0].field.endswith(field)


def test_a_line_without_a_turn_is_as_it_was() -> None:
    assert '"turn"' not in line(("message", Message("s", message_pb2.Message(seq=1)).to_dict()))
