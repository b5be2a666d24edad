"""Turns of a session, and the tokens that they used."""

import json
from datetime import datetime
from typing import Any

from sessiond._protocol.names import FIT_CHANGE_KIND_NAMES, TURN_STATE_NAMES
from sessiond._protocol.times import from_timestamp
from sessiond._types.record import ProtoRecord
from sessiond.v1 import conversation_service_pb2, turn_pb2


class Usage(ProtoRecord[turn_pb2.Usage]):
    """The tokens that a model used, as its provider reports them."""

    __slots__ = ()

    _fields = ("input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens")
    _identity = ("input_tokens", "output_tokens")

    @property
    def input_tokens(self) -> int:
        """Tokens that the model read, cached or not."""
        return self._pb.input_tokens

    @property
    def output_tokens(self) -> int:
        """Tokens that the model wrote, reasoning included."""
        return self._pb.output_tokens

    @property
    def cached_input_tokens(self) -> int:
        """The part of input_tokens read from the provider's prompt cache. 0 = none or unknown."""
        return self._pb.cached_input_tokens

    @property
    def reasoning_tokens(self) -> int:
        """The part of output_tokens that is reasoning. 0 = none or unknown."""
        return self._pb.reasoning_tokens


class TurnError(ProtoRecord[turn_pb2.TurnError]):
    """The reason that a turn ended without an answer."""

    __slots__ = ()

    _fields = ("reason", "message", "metadata")
    _identity = ("reason", "message")

    @property
    def reason(self) -> str:
        """Name of an ErrorReason, e.g. "MODEL_RATE_LIMITED", as in `SessiondError.reason`."""
        return self._pb.reason

    @property
    def message(self) -> str:
        """What happened, as text."""
        return self._pb.message

    @property
    def metadata(self) -> dict[str, str]:
        """Details of the reason; ErrorReason lists the keys."""
        return dict(self._pb.metadata)


class FitChange(ProtoRecord[turn_pb2.FitChange]):
    """One change that made a history fit a provider's API. Stored messages do not change."""

    __slots__ = ()

    _fields = ("seq", "kind", "detail")
    _identity = ("seq", "kind", "detail")

    @property
    def seq(self) -> int | None:
        """The seq of the message. None = the change concerns the request, not a stored message."""
        return self._pb.seq or None

    @property
    def kind(self) -> str:
        """What happened, e.g. "field_removed" or "result_missing"; see FitChangeKind."""
        return FIT_CHANGE_KIND_NAMES.get(self._pb.kind, "unknown")

    @property
    def detail(self) -> str:
        """The field, type or id that the change concerns. Empty = the whole message."""
        return self._pb.detail


class Turn(ProtoRecord[turn_pb2.Turn]):
    """A turn as the server returned it; it does not change afterwards.

    A send starts a turn, which ends with the model's final answer. Fields can be read as attributes
    and as keys, in both spellings: `turn.turn_id`, `turn["turn_id"]`, `turn["turnId"]`.
    """

    __slots__ = ()

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
        "changes",
        "change_count",
        "partial_seq",
        "parent_seq",
        "created_at",
        "started_at",
        "ended_at",
    )
    _identity = ("turn_id", "session_id", "state")

    @property
    def turn_id(self) -> str:
        """The turn's id, unique in its session."""
        return self._pb.turn_id

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._pb.session_id

    @property
    def state(self) -> str:
        """The state: "queued", "running", "completed", "failed" or "aborted"."""
        return TURN_STATE_NAMES.get(self._pb.state, "unknown")

    @property
    def model(self) -> str:
        """Name of the requested model."""
        return self._pb.model

    @property
    def first_seq(self) -> int | None:
        """The seq of the first message that the turn appended. None = no message yet."""
        return self._pb.first_seq or None

    @property
    def last_seq(self) -> int | None:
        """The seq of the turn's final answer. None = no answer, or not yet."""
        return self._pb.last_seq or None

    @property
    def stop_reason(self) -> str:
        """The provider's stop reason for the final answer, e.g. "stop" or "end_turn".

        Empty = no answer, or unknown.
        """
        return self._pb.stop_reason

    @property
    def usage(self) -> Usage | None:
        """The sum over all calls of the model in the turn. None = unknown."""
        return Usage(self._pb.usage) if self._pb.HasField("usage") else None

    @property
    def error(self) -> TurnError | None:
        """The reason that the turn failed or was aborted. None = neither has happened."""
        return TurnError(self._pb.error) if self._pb.HasField("error") else None

    @property
    def changes(self) -> list[FitChange]:
        """How the last request to the model differs from the stored messages; at most 100."""
        return [FitChange(change) for change in self._pb.changes]

    @property
    def change_count(self) -> int:
        """The number of all changes, including those beyond 100."""
        return self._pb.change_count

    @property
    def partial_seq(self) -> int | None:
        """The seq of the message with the text of an answer that was cut off. None = no text."""
        return self._pb.partial_seq or None

    @property
    def parent_seq(self) -> int | None:
        """The seq of the message that the turn was to continue. None = the newest one."""
        return self._pb.parent_seq or None

    @property
    def created_at(self) -> datetime:
        """Time of the send, in UTC."""
        return from_timestamp(self._pb.create_time)

    @property
    def started_at(self) -> datetime | None:
        """Time at which the turn started to run, in UTC. None = not started."""
        return from_timestamp(self._pb.start_time) if self._pb.HasField("start_time") else None

    @property
    def ended_at(self) -> datetime | None:
        """Time at which the turn ended, in UTC. None = not ended."""
        return from_timestamp(self._pb.end_time) if self._pb.HasField("end_time") else None


class MessageTurn(ProtoRecord[turn_pb2.MessageTurn]):
    """The turn that a message belongs to; for answers, also the model that wrote them."""

    __slots__ = ()

    _fields = ("turn_id", "message_id", "model", "provider", "stop_reason", "usage")
    _identity = ("turn_id", "model")

    @property
    def turn_id(self) -> str:
        """The turn's id."""
        return self._pb.turn_id

    @property
    def message_id(self) -> str:
        """The message_id of a sent message, unique in its session. Empty for answers."""
        return self._pb.message_id

    @property
    def model(self) -> str:
        """The provider's name for the model. Empty for messages that were sent."""
        return self._pb.model

    @property
    def provider(self) -> str:
        """The provider's name in the server's settings. Empty for messages that were sent."""
        return self._pb.provider

    @property
    def stop_reason(self) -> str:
        """The provider's stop reason for this message."""
        return self._pb.stop_reason

    @property
    def usage(self) -> Usage | None:
        """Usage of the call that produced this message. None = not reported."""
        return Usage(self._pb.usage) if self._pb.HasField("usage") else None


class TurnPreview(ProtoRecord[conversation_service_pb2.PreviewTurnResponse]):
    """The request that a send would make, as preview_turn returned it."""

    __slots__ = ()

    _fields = (
        "model",
        "provider",
        "request_json",
        "request_bytes",
        "seqs",
        "changes",
        "change_count",
    )
    _identity = ("provider", "model", "request_bytes")

    @property
    def model(self) -> str:
        """The name of the model as its provider knows it."""
        return self._pb.model

    @property
    def provider(self) -> str:
        """The name of the provider in the server's settings."""
        return self._pb.provider

    @property
    def request_json(self) -> str:
        """The body of the request as JSON text, with notes in the places of assets' contents.

        Empty = it has more than 2 MiB of text.
        """
        return self._pb.request_json

    @property
    def request(self) -> dict[str, Any] | None:
        """The body of the request, parsed. None = it has more than 2 MiB of text."""
        return json.loads(self._pb.request_json) if self._pb.request_json else None

    @property
    def request_bytes(self) -> int:
        """The size of the body with the contents of its assets, in bytes."""
        return self._pb.request_bytes

    @property
    def seqs(self) -> list[int]:
        """The seqs of the stored messages that the request is made of."""
        return list(self._pb.seqs)

    @property
    def changes(self) -> list[FitChange]:
        """How the request differs from the stored messages; at most 100."""
        return [FitChange(change) for change in self._pb.changes]

    @property
    def change_count(self) -> int:
        """The number of all changes, including those beyond 100."""
        return self._pb.change_count


class SentMessage(str):
    """The result of a send: the id of the message, "SESSION_ID/MESSAGE_ID", as in `Message.id`."""

    __slots__ = ("turn_id",)

    def __new__(cls, message_id: str, turn_id: str) -> "SentMessage":
        self = super().__new__(cls, message_id)
        self.turn_id = turn_id
        return self

    turn_id: str
    """The id of the turn that the message started or joined."""

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]  # str returns one value
        return str(self), self.turn_id


ENDED = (turn_pb2.TURN_STATE_COMPLETED, turn_pb2.TURN_STATE_FAILED, turn_pb2.TURN_STATE_ABORTED)


def sent_message(session_id: str, message_id: str, turn_id: str) -> SentMessage:
    """Return the result of a send. An empty message_id means that no message was sent."""
    return SentMessage(f"{session_id}/{message_id}" if message_id else "", turn_id)
