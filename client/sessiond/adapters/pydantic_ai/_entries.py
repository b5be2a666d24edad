"""Entries of a conversation as messages of a session, and back."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic_ai.conversation_store import ConversationEntry
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    AudioUrl,
    BinaryContent,
    DocumentUrl,
    ImageUrl,
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

from sessiond._async._client import AsyncClient
from sessiond._requests.input import NewMessage
from sessiond._types.message import Message
from sessiond.adapters._backend import MAX_MESSAGE_ID
from sessiond.adapters._history import CallIds, read_parts, text_of
from sessiond.v1 import message_pb2

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage

FORMAT_NAME = "pydantic-ai"
# Prefix of the entry ids that are made for messages without a message_id, which other programs have
# stored. The message's seq and time follow.
_FOREIGN = "sessiond:"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class MessageRemoved(Exception):
    """A message was removed by a rewind while the conversation was read."""


def new_messages(
    entries: Sequence[ConversationEntry], parents: Sequence[int | None]
) -> list[NewMessage]:
    """Return the messages that store entries.

    Args:
        entries: the entries.
        parents: the seq of each entry's parent. 0 = no parent; None = the message before it.

    Raises:
        UserError: if JSON cannot represent an entry's message, or if its id cannot be stored.
    """
    for entry in entries:
        if not is_message_id(entry.id):
            raise UserError(
                f"The entry id {entry.id!r:.80} cannot be saved: it needs 1 to {MAX_MESSAGE_ID} "
                "characters, none of them a control character."
            )
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


async def entries_of(
    client: AsyncClient, session_id: str, messages: Sequence[Message], parent_id: str | None
) -> list[ConversationEntry]:
    """Return the entries of the messages of a branch.

    Messages of other programs are converted. Messages with nothing for a model are left out.

    Args:
        client: the client.
        session_id: the session of the messages.
        messages: consecutive messages of the branch, in order.
        parent_id: id of the entry before the first one.

    Raises:
        MessageRemoved: if a rewind has removed a message since it was read.
        SessiondError: as in get_messages.
    """
    others = [message.seq for message in messages if not _is_own(message)]
    parts = await read_parts(client, session_id, others, lambda message: message)
    own = [message.json for message in messages if _is_own(message)]
    # One call is several times as fast as a call for each message.
    parsed = iter(ModelMessagesTypeAdapter.validate_json(f"[{','.join(own)}]") if own else ())
    found: list[ConversationEntry] = []
    names, call_ids = dict[str, str](), CallIds()
    for message in messages:
        if _is_own(message):
            content = next(parsed)
        elif message.seq in parts:
            content = _converted(parts[message.seq], names, call_ids)
        else:
            raise MessageRemoved
        if content is None:
            continue
        if isinstance(content, ModelResponse):
            calls = [part for part in content.parts if isinstance(part, ToolCallPart)]
            names.update((call.tool_call_id, call.tool_name) for call in calls)
        entry = ConversationEntry(id=entry_id(message), parent_id=parent_id, message=content)
        parent_id = entry.id
        found.append(entry)
    return found


async def has_entry(client: AsyncClient, message: Message) -> bool:
    """Whether a message holds anything for a model."""
    return bool(await entries_of(client, message.session_id, [message], None))


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


def is_message_id(text: str) -> bool:
    """Whether a message can have this id."""
    return 0 < len(text) <= MAX_MESSAGE_ID and is_printable(text)


def is_printable(text: str) -> bool:
    """Whether a text is valid Unicode without control characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return not any(c < " " or "\x7f" <= c <= "\x9f" for c in text)


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


def _is_own(message: Message) -> bool:
    return message.format_name == FORMAT_NAME


def _converted(
    message: Message, names: Mapping[str, str], call_ids: CallIds
) -> "ModelMessage | None":
    """Return another program's message as one of Pydantic AI.

    Args:
        message: the message, with typed parts.
        names: the names of the tools that were called before, by the id of the call.
        call_ids: gives ids to calls without an id.

    Returns:
        The message. None = there is nothing in it for a model.
    """
    parts, time = message.proto.parts.parts, message.created_at
    if message.role == "assistant":
        said = [made for part in parts if (made := _response_part(part, call_ids)) is not None]
        return ModelResponse(parts=said, timestamp=time) if said else None
    asked: list[Any] = []
    for part in parts:
        match part.WhichOneof("kind"):
            case "tool_result":
                call_id = call_ids.of_result(part.tool_result)
                asked.append(
                    ToolReturnPart(
                        names.get(call_id, ""),
                        text_of(part.tool_result.parts),
                        tool_call_id=call_id,
                        timestamp=time,
                        outcome="failed" if part.tool_result.is_error else "success",
                    )
                )
            case "text" if message.role in ("system", "developer"):
                asked.append(SystemPromptPart(part.text, timestamp=time))
            case "image" | "audio" | "file" as kind if content := _file(getattr(part, kind), kind):
                asked.append(UserPromptPart([content], timestamp=time))
            case _ if text := text_of([part]):
                asked.append(UserPromptPart(text, timestamp=time))
    return ModelRequest(parts=asked, timestamp=time) if asked else None


def _response_part(part: message_pb2.Part, call_ids: CallIds) -> Any:
    if part.WhichOneof("kind") == "tool_call":
        call = part.tool_call
        id = call_ids.of_call(call)
        return ToolCallPart(call.name, call.arguments_json or "{}", tool_call_id=id)
    # Reasoning is left out: only the provider that signed it accepts it.
    return TextPart(text) if (text := text_of([part])) else None


def _file(blob: message_pb2.Blob, kind: str) -> Any:
    """Return the file of a prompt; None if only the server can read it."""
    if blob.WhichOneof("source") == "inline":
        media_type = blob.media_type or "application/octet-stream"
        return BinaryContent.narrow_type(BinaryContent(blob.inline, media_type=media_type))
    if not blob.uri:
        return None
    url = {"image": ImageUrl, "audio": AudioUrl}.get(kind, DocumentUrl)
    return url(blob.uri)
