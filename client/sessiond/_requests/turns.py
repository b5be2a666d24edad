"""Requests about turns."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, TypeAlias, TypedDict

from sessiond._protocol.model_options import text_of
from sessiond._requests.attachments import Attachment, AttachmentInput, attachments_of
from sessiond._requests.fields import check_keywords, filled, request_id_or_new
from sessiond._requests.inline_files import least_bytes
from sessiond._requests.input import MessageInput, add_batch
from sessiond._requests.options import PreviewOptions
from sessiond.errors import InvalidField, invalid_field
from sessiond.v1.conversation_service_pb2 import AbortRequest, PreviewTurnRequest, SendRequest
from sessiond.v1.message_pb2 import ROLE_USER, Message, Part, Parts

Prompt: TypeAlias = str | Mapping[str, Any]
"""The user's text; or a dict of send's keywords, e.g. {"prompt": ..., "attachments": [...]}."""

OnTimeout: TypeAlias = Literal["leave", "abort"]

_DEFAULTS: dict[str, Any] = {
    "prompt": None,
    "messages": None,
    "format": None,
    "extract_files": False,
    "attachments": (),
    "mode": "enqueue",
    "model": None,
    "options": None,
    "turn_timeout": None,
    "keep_partial": None,
    "expected_epoch": None,
    "parent_seq": None,
    "request_id": None,
}
_SPELLINGS = {
    "requestId": "request_id",
    "turnTimeout": "turn_timeout",
    "keepPartial": "keep_partial",
    "expectedEpoch": "expected_epoch",
    "parentSeq": "parent_seq",
}


class SendOptions(TypedDict, total=False):
    """The content and the options of a send."""

    messages: Iterable[MessageInput] | None
    """1 to 100 messages as store_messages takes them, instead of prompt and attachments."""
    format: str | None
    """Format of dicts and JSON texts in messages: "openai", "anthropic" or "gemini". Default:
    determined by the shape of each; for plain text, the format of the model's provider."""
    extract_files: bool | int
    """Upload the files inside messages as assets first, as in store_messages."""
    attachments: Sequence[AttachmentInput]
    """Files for the prompt: paths, URLs, tuples of content and media type, or dicts with one of
    "path", "data" (bytes or base64), "uri" and "asset_id", and optionally "media_type" and "name".
    Files above 256 KiB are uploaded as assets first."""
    mode: str
    """What happens if a turn is running. "enqueue" (default): the messages wait, and then start a
    turn of their own. "immediate": they steer the running turn. If tool calls of the last answer
    have no results yet, "immediate" messages wait for the results."""
    model: str | None
    """Model to ask. Default: the session's, or the server's default."""
    options: Mapping[str, Any] | None
    """Fields of the request to the model, such as temperature, max_tokens and tools, which are
    passed on unchanged and in the same order. A JSON object of at most 1 MiB and 200 levels."""
    turn_timeout: timedelta | float | None
    """Maximum running time, after which the turn is ended: a timedelta or seconds, from 1 second.
    Default: the server's limit."""
    keep_partial: bool | None
    """Whether the text that the model has written is kept if the turn fails or is aborted, as a
    message that is marked `incomplete`. Default: the server's setting, normally True."""
    expected_epoch: int | None
    """Start no turn unless the session's epoch is this."""
    parent_seq: int | None
    """Seq of the message that the turn continues. The turn becomes a branch of its own if other
    messages continue that message. Default: the newest message."""
    request_id: str | None
    """Makes the call safe to repeat: a call with the same id joins the turn. Default: random."""


class Sending:
    """A request, and the attachments to read or upload before it can be sent.

    Creating one raises InvalidField for a value that cannot be sent.

    Attributes:
        request: the request, without the attachments.
        attachments: the attachments.
        text: the prompt. "" = none.
        extract_files: the caller's value.
    """

    def __init__(self, session_id: str, prompt: Prompt | None, given: Mapping[str, Any]) -> None:
        values = _merged(prompt, given)
        text = values["prompt"]
        if text is not None and not isinstance(text, str):
            raise invalid_field(
                "prompt",
                f"is of type {type(text).__name__}; it must be a string or a dict of keywords",
            )
        self.attachments: list[Attachment] = attachments_of(values["attachments"])
        if text == "" and not self.attachments:
            # The caller more likely has an unset variable than the wish to let the model continue.
            raise invalid_field(
                "prompt",
                "is empty; leave it out to let the model continue from the history as it is",
            )
        if values["messages"] is not None and (text is not None or self.attachments):
            raise invalid_field(
                "messages",
                f"cannot be combined with {'prompt' if text is not None else 'attachments'}",
            )
        self.text = text or ""
        self.extract_files = values["extract_files"]
        least_bytes(self.extract_files)  # checks it
        self.request = filled(
            SendRequest(),
            session_id=session_id,
            prompt=None if self.attachments else self.text,
            model=values["model"],
            mode=values["mode"],
            options_json=None
            if values["options"] is None
            else text_of(values["options"], "options"),
            turn_timeout=values["turn_timeout"],
            keep_partial=values["keep_partial"],
            expected_epoch=values["expected_epoch"],
            parent_seq=values["parent_seq"],
            request_id=request_id_or_new(values["request_id"]),
        )
        if values["messages"] is not None:
            add_batch(self.request.messages, values["messages"], values["format"], is_sent=True)
            if not self.request.messages:
                raise invalid_field(
                    "messages",
                    "is empty; leave it out to let the model continue from the history as it is",
                )

    def take_parts(self, parts: Sequence[Part]) -> None:
        """Send the prompt and the parts of the attachments, as one message."""
        text = [Part(text=self.text)] if self.text else []
        self.request.ClearField("messages")
        self.request.messages.append(Message(role=ROLE_USER, parts=Parts(parts=[*text, *parts])))


def preview(session_id: str, prompt: str | None, given: PreviewOptions) -> PreviewTurnRequest:
    """Return the request of a preview. The caller must apply the timeout itself.

    Raises:
        InvalidField: if a value cannot be sent.
    """
    check_keywords(given, PreviewOptions.__optional_keys__)
    keywords = {key: value for key, value in given.items() if key != "timeout"}
    sent = Sending(session_id, prompt, keywords).request
    return PreviewTurnRequest(
        session_id=session_id,
        prompt=sent.prompt,
        messages=sent.messages,
        model=sent.model,
        options_json=sent.options_json,
        parent_seq=sent.parent_seq,
    )


def aborts(on_timeout: str) -> bool:
    """Return whether a wait that exceeds its deadline aborts the turn.

    Raises:
        InvalidField: if on_timeout is neither "leave" nor "abort".
    """
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


def _unknown(name: object, value: object, prefix: str = "") -> InvalidField:
    # Most unknown keywords are model options, which other libraries accept as keywords.
    return invalid_field(
        f"{prefix}{name}",
        f"is not known to send; give an option of the model as options={{{name!r}: {value!r:.60}}}."
        f" Known are {', '.join(_DEFAULTS)}",
    )


def _merged(prompt: Prompt | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords, including those of a prompt that is a dict."""
    if unknown := given.keys() - SendOptions.__optional_keys__:
        raise _unknown(min(unknown), given[min(unknown)])
    values = {**_DEFAULTS, **given}
    if not isinstance(prompt, Mapping):
        return {**values, "prompt": prompt}
    if "role" in prompt or "content" in prompt:
        raise invalid_field("prompt", "is a provider's message; send it as messages=[...]")
    for key, value in prompt.items():
        name = _SPELLINGS.get(key, key)
        if name not in _DEFAULTS:
            raise _unknown(key, value, "prompt.")
        if values[name] is not None and values[name] != _DEFAULTS[name]:
            raise invalid_field(name, "is given twice, in the dict and as a keyword")
        values[name] = _DEFAULTS[name] if value is None else value
    return values
