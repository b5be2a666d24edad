"""What the server says about a turn, and about what a model used."""

from datetime import datetime

from sessiond._protocol.names import TURN_STATE_NAMES
from sessiond._protocol.times import from_timestamp
from sessiond._types.record import Record
from sessiond.v1 import turn_pb2


class Usage(Record):
    """What a model counted, as its provider reports it. Unit: tokens."""

    __slots__ = ("_pb",)

    _fields = ("input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens")

    def __init__(self, pb: turn_pb2.Usage) -> None:
        self._pb = pb

    @property
    def input_tokens(self) -> int:
        """All that the model read, cached or not."""
        return self._pb.input_tokens

    @property
    def output_tokens(self) -> int:
        """All that the model wrote, its thinking included."""
        return self._pb.output_tokens

    @property
    def cached_input_tokens(self) -> int:
        """The part of input_tokens that came out of the provider's prompt cache. 0 = none, or not reported."""
        return self._pb.cached_input_tokens

    @property
    def reasoning_tokens(self) -> int:
        """The part of output_tokens that is thinking. 0 = none, or not reported."""
        return self._pb.reasoning_tokens

    def __repr__(self) -> str:
        return f"Usage(input_tokens={self.input_tokens}, output_tokens={self.output_tokens})"


class TurnError(Record):
    """Why a turn ended without an answer."""

    __slots__ = ("_pb",)

    _fields = ("reason", "message", "metadata")

    def __init__(self, pb: turn_pb2.TurnError) -> None:
        self._pb = pb

    @property
    def reason(self) -> str:
        """Name of an ErrorReason, e.g. "MODEL_RATE_LIMITED", as `SessiondError.reason` has it."""
        return self._pb.reason

    @property
    def message(self) -> str:
        """What happened, in words."""
        return self._pb.message

    @property
    def metadata(self) -> dict[str, str]:
        """The reason's facts; ErrorReason names the keys."""
        return dict(self._pb.metadata)

    def __repr__(self) -> str:
        return f"TurnError(reason={self.reason!r}, message={self.message!r})"


class Turn(Record):
    """What one send set going, as it was when the server answered; it does not change afterwards.

    Reads by attribute, and by key in both spellings: `turn.turn_id`, `turn["turn_id"]`, `turn["turnId"]`.
    """

    __slots__ = ("_pb",)

    _fields = (
        "turn_id",
        "session_id",
        "state",
        "model",
        "first_seq",
        "last_seq",
        "stop_reason",
        "usage",
        "error",
        "created_at",
        "started_at",
        "ended_at",
    )

    def __init__(self, pb: turn_pb2.Turn) -> None:
        self._pb = pb

    @property
    def turn_id(self) -> str:
        """The turn's name within its session."""
        return self._pb.turn_id

    @property
    def session_id(self) -> str:
        """The session."""
        return self._pb.session_id

    @property
    def state(self) -> str:
        """ "queued", "running", "completed", "failed" or "aborted"."""
        return TURN_STATE_NAMES.get(self._pb.state, "unknown")

    @property
    def model(self) -> str:
        """Name of the model that was asked for."""
        return self._pb.model

    @property
    def first_seq(self) -> int | None:
        """The seq of the first message that it appended. None = it waits still, or appended none."""
        return self._pb.first_seq or None

    @property
    def last_seq(self) -> int | None:
        """The seq of its final answer. None = there is none, or not yet."""
        return self._pb.last_seq or None

    @property
    def stop_reason(self) -> str:
        """Why the model ended its final answer, in its provider's own word, e.g. "stop", "end_turn". Empty = no answer, or not known."""
        return self._pb.stop_reason

    @property
    def usage(self) -> Usage | None:
        """The sum over all calls of the model in the turn. None = not known."""
        return Usage(self._pb.usage) if self._pb.HasField("usage") else None

    @property
    def error(self) -> TurnError | None:
        """Why it failed or was aborted. None = it did not."""
        return TurnError(self._pb.error) if self._pb.HasField("error") else None

    @property
    def created_at(self) -> datetime:
        """When it was sent. In UTC."""
        return from_timestamp(self._pb.create_time)

    @property
    def started_at(self) -> datetime | None:
        """When it began to run. None = it has not."""
        return from_timestamp(self._pb.start_time) if self._pb.HasField("start_time") else None

    @property
    def ended_at(self) -> datetime | None:
        """When it ended. None = it has not."""
        return from_timestamp(self._pb.end_time) if self._pb.HasField("end_time") else None

    def __repr__(self) -> str:
        return (
            f"Turn(turn_id={self.turn_id!r}, session_id={self.session_id!r}, state={self.state!r})"
        )


class MessageTurn(Record):
    """Which turn a message belongs to, and of an answer how it came about."""

    __slots__ = ("_pb",)

    _fields = ("turn_id", "message_id", "model", "provider", "stop_reason", "usage")

    def __init__(self, pb: turn_pb2.MessageTurn) -> None:
        self._pb = pb

    @property
    def turn_id(self) -> str:
        """The turn."""
        return self._pb.turn_id

    @property
    def message_id(self) -> str:
        """The name of a message that was sent, without its session. Empty for answers."""
        return self._pb.message_id

    @property
    def model(self) -> str:
        """Name of the model as its provider knows it. Empty for messages that were sent."""
        return self._pb.model

    @property
    def provider(self) -> str:
        """The provider's name in the server's settings. Empty for messages that were sent."""
        return self._pb.provider

    @property
    def stop_reason(self) -> str:
        """Why the model ended this message, in its provider's own word."""
        return self._pb.stop_reason

    @property
    def usage(self) -> Usage | None:
        """Of the call that gave this message. None = not reported."""
        return Usage(self._pb.usage) if self._pb.HasField("usage") else None

    def __repr__(self) -> str:
        return f"MessageTurn(turn_id={self.turn_id!r}, model={self.model!r})"


class SentMessage(str):
    """What send answers: the id of the message that was sent, "SESSION_ID/MESSAGE_ID", as `Message.id` has it. It also knows its turn."""

    __slots__ = ("turn_id",)

    def __new__(cls, message_id: str, turn_id: str) -> "SentMessage":
        self = super().__new__(cls, message_id)
        self.turn_id = turn_id
        return self

    turn_id: str
    """The turn that the message set going, or joined."""

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]  # a str has one
        return str(self), self.turn_id


ENDED = (turn_pb2.TURN_STATE_COMPLETED, turn_pb2.TURN_STATE_FAILED, turn_pb2.TURN_STATE_ABORTED)


def sent_message(session_id: str, message_id: str, turn_id: str) -> SentMessage:
    """message_id: empty = nothing was sent, and so nothing has an id."""
    return SentMessage(f"{session_id}/{message_id}" if message_id else "", turn_id)
