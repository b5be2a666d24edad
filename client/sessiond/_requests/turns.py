"""The requests of ConversationService about turns, built from keyword arguments. No I/O in here."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, TypeAlias, TypedDict

from sessiond._protocol.names import SEND_MODES, TURN_STATES, number_of
from sessiond._protocol.times import to_duration
from sessiond._requests.attachments import Attachment, AttachmentInput, attachments_of
from sessiond._requests.fields import filled, put_struct, request_id_or_new
from sessiond._requests.input import MessageInput, add_batch
from sessiond.errors import invalid_field
from sessiond.v1.conversation_service_pb2 import (
    AbortRequest,
    GetTurnRequest,
    ListTurnsRequest,
    SendRequest,
)
from sessiond.v1.message_pb2 import ROLE_USER, Message, Part, Parts

Prompt: TypeAlias = str | Mapping[str, Any]
"""What the user says; or a dict of the keywords of send, e.g. {"prompt": ..., "attachments": [...]}."""

OnTimeout: TypeAlias = Literal["leave", "abort"]

_DEFAULTS: dict[str, Any] = {
    "prompt": None,
    "messages": None,
    "format": "openai",
    "attachments": (),
    "mode": "enqueue",
    "model": None,
    "options": None,
    "turn_timeout": None,
    "request_id": None,
}
_SPELLINGS = {"requestId": "request_id", "turnTimeout": "turn_timeout"}


class SendOptions(TypedDict, total=False):
    """How to send, as in `client.sessions.send`."""

    messages: Iterable[MessageInput] | None
    format: str
    attachments: Sequence[AttachmentInput]
    mode: str
    model: str | None
    options: Mapping[str, Any] | None
    turn_timeout: timedelta | float | None
    request_id: str | None


class Sending:
    """A request, and what has to be read or uploaded before it can be sent."""

    def __init__(self, session_id: str, prompt: Prompt | None, given: Mapping[str, Any]) -> None:
        """Raises: InvalidField."""
        values = _merged(prompt, given)
        text = values["prompt"]
        if text is not None and not isinstance(text, str):
            raise invalid_field(
                "prompt",
                f"is of type {type(text).__name__}; it must be a text, or a dict of send's keywords",
            )
        self.attachments: list[Attachment] = attachments_of(values["attachments"])
        if text == "" and not self.attachments:
            # More likely a variable that was not set than a wish to have the model go on.
            raise invalid_field(
                "prompt", "is empty; leave it out to have the model go on from the history as it is"
            )
        if values["messages"] is not None and (text is not None or self.attachments):
            raise invalid_field(
                "messages",
                f"cannot be given together with {'prompt' if text is not None else 'attachments'}",
            )
        self.text = text or ""
        request = filled(
            SendRequest(),
            session_id=session_id,
            prompt=None if self.attachments else self.text,
            model=values["model"],
            mode=number_of(SEND_MODES, values["mode"], "mode"),
            request_id=request_id_or_new(values["request_id"]),
        )
        if values["messages"] is not None:
            add_batch(request.messages, values["messages"], values["format"])
            if not request.messages:
                raise invalid_field(
                    "messages",
                    "is empty; leave it out to have the model go on from the history as it is",
                )
        put_struct(request, "options", values["options"])
        if values["turn_timeout"] is not None:
            request.turn_timeout.CopyFrom(to_duration(values["turn_timeout"], "turn_timeout"))
        self.request = request

    def take_parts(self, parts: Sequence[Part]) -> None:
        """What became of the attachments: with the prompt they make one message."""
        said = [Part(text=self.text)] if self.text else []
        self.request.ClearField("messages")
        self.request.messages.append(Message(role=ROLE_USER, parts=Parts(parts=[*said, *parts])))


def aborts(on_timeout: str) -> bool:
    """Raises: InvalidField."""
    if on_timeout not in ("leave", "abort"):
        raise invalid_field("on_timeout", f"is {on_timeout!r}; it must be one of leave, abort")
    return on_timeout == "abort"


def abort(
    session_id: str, turn_id: str | None, *, include_queued: bool, request_id: str | None
) -> AbortRequest:
    if turn_id == "":
        raise invalid_field("turn_id", "is empty; leave it out to abort the turn that is running")
    return filled(
        AbortRequest(),
        session_id=session_id,
        turn_id=turn_id,
        include_queued=include_queued,
        request_id=request_id_or_new(request_id),
    )


def get_turn(session_id: str, turn_id: str) -> GetTurnRequest:
    return filled(GetTurnRequest(), session_id=session_id, turn_id=turn_id)


def list_turns(session_id: str, *, state: str | None, page_size: int | None) -> ListTurnsRequest:
    number = None if state is None else number_of(TURN_STATES, state, "state")
    return filled(ListTurnsRequest(), session_id=session_id, state=number, page_size=page_size)


def _merged(prompt: Prompt | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords, wherever they were given."""
    if unknown := given.keys() - _DEFAULTS.keys():
        raise TypeError(f"send got an unexpected keyword argument {min(unknown)!r}")
    values = {**_DEFAULTS, **given}
    if not isinstance(prompt, Mapping):
        return {**values, "prompt": prompt}
    if "role" in prompt or "content" in prompt:
        raise invalid_field("prompt", "is a provider's message; send it as messages=[...]")
    for key, value in prompt.items():
        name = _SPELLINGS.get(key, key)
        if name not in _DEFAULTS:
            raise invalid_field(
                f"prompt.{key}", f"is not known; a dict may have {', '.join(_DEFAULTS)}"
            )
        if values[name] is not None and values[name] != _DEFAULTS[name]:
            raise invalid_field(name, "is given twice, in the dict and as a keyword")
        values[name] = _DEFAULTS[name] if value is None else value
    return values
