"""A Send request, and its result."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sessiond.v1.message_pb2 import Message
from sessiond_server.core.errors import invalid
from sessiond_server.db.idempotency import content_hash
from sessiond_server.turns.store.rows import TurnRow


@dataclass(frozen=True, slots=True)
class Sending:
    """A Send request.

    Attributes:
        prompt: the text of a user message. At most one of prompt and messages is set.
        model: the model's name. "" = the session's model.
        options_json: fields of the provider's request, as a JSON object; "" = none.
        is_immediate: whether to steer the running turn, if there is one.
        timeout_ms: timeout of the turn. None = the server's maximum.
        request_id: makes the call safe to repeat; "" = none.
        keep_partial: whether to keep the text of an answer that is cut off; None = the server's
            setting.
        expected_epoch: the epoch that the session must have; None = any.
        parent_seq: seq of the message that the turn continues; 0 = the newest message.
    """

    project_id: UUID
    session_id: str
    prompt: str = ""
    messages: Sequence[Message] = ()
    model: str = ""
    options_json: str = ""
    is_immediate: bool = False
    timeout_ms: int | None = None
    request_id: str = ""
    keep_partial: bool | None = None
    expected_epoch: int | None = None
    parent_seq: int = 0

    @property
    def message_id(self) -> str:
        """The caller's message_id of the last message; "" if it has none."""
        return self.messages[-1].message_id if self.messages else ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The result of a Send.

    Attributes:
        turn: the turn that the Send created, even if it steers another turn.
        after_seq: seq of the session's last message before the Send.
        is_new: False if an earlier Send had the same request_id.
        epoch: epoch of after_seq.
    """

    turn: TurnRow
    after_seq: int
    is_new: bool
    epoch: int


def content_of(sending: Sending) -> bytes:
    """Return the hash of a request's content. A repeated request must have the same hash."""
    messages = [message.SerializeToString(deterministic=True).hex() for message in sending.messages]
    return content_hash(
        "send",
        sending.prompt,
        messages,
        sending.model,
        sending.options_json,
        sending.is_immediate,
        sending.timeout_ms,
        # Leave these fields out if they are unset. The hash then equals the hash of earlier
        # versions of the server.
        *(() if sending.keep_partial is None else (sending.keep_partial,)),
        *(() if sending.expected_epoch is None else (sending.expected_epoch,)),
        *(("parent_seq", sending.parent_seq) if sending.parent_seq else ()),
    )


def take_parent(sending: Sending, messages: Sequence[Message]) -> None:
    """Check the parent of a Send, and make it the parent of the first message.

    Raises:
        Fault: INVALID_FIELD if the request cannot have this parent.
    """
    if not sending.parent_seq:
        return
    if sending.parent_seq < 0:
        raise invalid("parent_seq", "is negative; 0 = the newest message")
    if sending.is_immediate:
        raise invalid(
            "parent_seq",
            "cannot be combined with SEND_MODE_IMMEDIATE: the messages go to the branch of the "
            "running turn",
        )
    if messages and messages[0].parent_seq:
        raise invalid("parent_seq", "cannot be combined with messages[0].parent_seq")
    if messages:
        messages[0].parent_seq = sending.parent_seq
