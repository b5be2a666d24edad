"""The responses of a fake server about turns."""

import asyncio
from typing import Any

import grpc

from sessiond.v1 import event_pb2, message_pb2, turn_pb2
from sessiond.v1.conversation_service_pb2 import SendResponse

RUNNING = turn_pb2.TURN_STATE_RUNNING
COMPLETED = turn_pb2.TURN_STATE_COMPLETED
FAILED = turn_pb2.TURN_STATE_FAILED
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def turn(state: Any = RUNNING, *, id: str = "t1", last_seq: int = 0) -> turn_pb2.Turn:
    return turn_pb2.Turn(turn_id=id, session_id="s", state=state, model="m", last_seq=last_seq)


def accepted(id: str = "t1", message_id: str = "m1") -> SendResponse:
    return SendResponse(turn=turn(id=id), message_id=message_id)


def completed(last_seq: int, id: str = "t1") -> SendResponse:
    return SendResponse(turn=turn(COMPLETED, id=id, last_seq=last_seq))


def stored(
    seq: int, role: str = "assistant", turn_id: str = "t1", message_id: str = ""
) -> message_pb2.Message:
    number = message_pb2.Role.Value(f"ROLE_{role.upper()}")
    text = f'{{"role":"{role}","content":"answer {seq}"}}'
    of = turn_pb2.MessageTurn(turn_id=turn_id, message_id=message_id)
    return message_pb2.Message(
        seq=seq, role=number, json=text, format=message_pb2.FORMAT_OPENAI, turn=of
    )


def message_event(
    seq: int, role: str = "assistant", turn_id: str = "t1", message_id: str = ""
) -> event_pb2.Event:
    return event_pb2.Event(
        type=f"{role}.message",
        seq=seq,
        session_id="s",
        message=stored(seq, role, turn_id, message_id),
    )


def turn_event(type: str, **data: Any) -> event_pb2.Event:
    event = event_pb2.Event(type=type, session_id="s")
    event.data.update({"turn_id": "t1", **data})
    return event


def events(*happened: event_pb2.Event) -> SendResponse:
    return SendResponse(events=happened)


def answered(seq: int = 9) -> list[SendResponse]:
    """A turn from its beginning to its end."""
    return [
        accepted(),
        events(message_event(seq - 1, "user", message_id="m1"), message_event(seq)),
        completed(seq),
    ]


def broken(server: Any, code: grpc.StatusCode = UNAVAILABLE, text: str = "Socket closed") -> Any:
    return server.abort(code, text)


async def silence(request: Any, context: Any) -> None:
    await asyncio.Event().wait()
