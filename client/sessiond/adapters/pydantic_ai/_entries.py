"""Entries of a conversation as messages of a session, and back."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic_ai.conversation_store import ConversationEntry
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from sessiond._requests.input import NewMessage
from sessiond._types.message import Message
from sessiond.adapters._foreign import Call, Result, Said, Text, said_in

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage

FORMAT_NAME = "pydantic-ai"
# Ids of messages that others have stored without one, made of their seq and time.
_FOREIGN = "sessiond:"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def new_messages(
    entries: Sequence[ConversationEntry], parents: Sequence[int | None]
) -> list[NewMessage]:
    """Return the messages that store entries.

    Args:
        entries: the entries.
        parents: for each, the seq of its parent; 0 = it has none, None = the message before it.

    Raises:
        UserError: if JSON cannot represent an entry's message.
    """
    return [
        NewMessage(
            _json_of(entry),
            format="other",
            format_name=FORMAT_NAME,
            role=_role_of(entry.message),
            message_id=entry.id,
            parent_seq=parent or None,
            is_root=parent == 0,
        )
        for entry, parent in zip(entries, parents, strict=True)
    ]


def chain(messages: Iterable[Message], parent_id: str | None) -> list[ConversationEntry]:
    """Return the entries of the messages of a branch.

    Args:
        messages: consecutive messages of the branch, in order.
        parent_id: id of the entry before the first one.
    """
    return [entry for entry, _ in chained(messages, parent_id)]


def chained(
    messages: Iterable[Message], parent_id: str | None
) -> list[tuple[ConversationEntry, int]]:
    """Return the entries of the messages of a branch, each with its seq.

    Messages of other programs are converted. Those without anything for a model are left out.
    """
    found: list[tuple[ConversationEntry, int]] = []
    for message, content in _contents([*messages]):
        entry = ConversationEntry(id=entry_id(message), parent_id=parent_id, message=content)
        parent_id = entry.id
        found.append((entry, message.seq))
    return found


def entry_id(message: Message) -> str:
    """Return the id of a message's entry."""
    if message.message_id is not None:
        return message.message_id
    microseconds = (message.created_at - _EPOCH) // timedelta(microseconds=1)
    return f"{_FOREIGN}{message.seq}@{microseconds}"


def seq_in(id: str) -> int | None:
    """Return the seq in an id that entry_id() has made. None = another id."""
    seq = id.removeprefix(_FOREIGN).partition("@")[0]
    return int(seq) if id.startswith(_FOREIGN) and seq.isascii() and seq.isdecimal() else None


def is_entry(message: Message) -> bool:
    """Whether a message has an entry: whether there is anything in it for a model."""
    return bool(_contents([message]))


def _json_of(entry: ConversationEntry) -> bytes:
    try:
        encoded: bytes = ModelMessagesTypeAdapter.dump_json([entry.message])
    except ValueError as error:
        raise UserError(f"A message cannot be saved, since JSON cannot hold it: {error}") from error
    return encoded[1:-1]


def _role_of(message: "ModelMessage") -> str:
    if isinstance(message, ModelResponse):
        return "assistant"
    kinds = {type(part) for part in message.parts}
    if kinds and kinds <= {ToolReturnPart, RetryPromptPart}:
        return "tool"
    return "system" if kinds == {SystemPromptPart} else "user"


def _contents(messages: list[Message]) -> list[tuple[Message, "ModelMessage"]]:
    own = [m.json for m in messages if m.format_name == FORMAT_NAME]
    # One call is several times as fast as one for each message.
    parsed = iter(ModelMessagesTypeAdapter.validate_json(f"[{','.join(own)}]") if own else ())
    found: list[tuple[Message, ModelMessage]] = []
    names: dict[str, str] = {}
    for message in messages:
        content = next(parsed) if message.format_name == FORMAT_NAME else _converted(message, names)
        if content is None:
            continue
        found.append((message, content))
        if isinstance(content, ModelResponse):
            calls = [part for part in content.parts if isinstance(part, ToolCallPart)]
            names.update((call.tool_call_id, call.tool_name) for call in calls)
    return found


def _converted(message: Message, names: Mapping[str, str]) -> "ModelMessage | None":
    """Return another program's message as one of Pydantic AI.

    Args:
        message: the message.
        names: the names of the tools that were called before, by the id of the call.

    Returns:
        The message. None = there is nothing in it for a model.
    """
    said = said_in(message)
    if said.role == "assistant":
        parts = [_response_part(piece) for piece in said.pieces]
        kept = [part for part in parts if part is not None]
        return ModelResponse(parts=kept, timestamp=message.created_at) if kept else None
    request = [_request_part(piece, said, message.created_at, names) for piece in said.pieces]
    asked = [part for part in request if part is not None]
    return ModelRequest(parts=asked, timestamp=message.created_at) if asked else None


def _response_part(piece: "Text | Call | Result") -> Any:
    match piece:
        case Text(text):
            return TextPart(text)
        case Call(call_id, name, arguments):
            return ToolCallPart(name, arguments, tool_call_id=call_id)
        case _:
            return None


def _request_part(
    piece: "Text | Call | Result", said: Said, time: datetime, names: Mapping[str, str]
) -> Any:
    match piece:
        case Text(text) if said.role in ("system", "developer"):
            return SystemPromptPart(text, timestamp=time)
        case Text(text):
            return UserPromptPart(text, timestamp=time)
        case Result(call_id, name, text):
            tool = name or names.get(call_id, "")
            return ToolReturnPart(tool, text, tool_call_id=call_id, timestamp=time)
        case _:
            return None
