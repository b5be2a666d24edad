"""Messages as the caller gives them, and their conversion to protobuf."""

from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from sessiond._protocol.checks import listed
from sessiond._protocol.json_text import encode_or_refuse
from sessiond._protocol.names import FORMATS, ROLES, number_of
from sessiond._protocol.structs import fill_struct
from sessiond._requests import shapes
from sessiond._types.message import Message
from sessiond.errors import invalid_field
from sessiond.v1 import message_pb2

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

Blob: TypeAlias = Mapping[str, Any] | str | bytes


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to store, with its metadata, parent and name. Give either `blob` or `parts`."""

    blob: Blob | None = None
    """The provider's message: a dict, or JSON text (str or bytes), which is kept byte for byte."""
    format: str | None = None
    """Format of `blob`: "openai", "anthropic", "gemini" or "other". None = the format that the call
    gives, or else the format that the shape of `blob` shows."""
    metadata: Mapping[str, Any] | None = None
    """Labels of this message: a JSON object of at most 64 KiB. None = none."""
    parent_seq: int | None = None
    """Seq of the message that this one follows. The parent must exist, or precede this message in
    the same batch. None = the previous message."""
    parts: Sequence[message_pb2.Part] = ()
    """The content in sessiond's own types, 1 to 1,000 parts."""
    role: str | None = None
    """The speaker: "user", "assistant", "system", "developer" or "tool". Required with `parts`. A
    `blob` contains its role; in the format "other", the role may also be given here."""
    message_id: str | None = None
    """The caller's own name of the message, at most 256 characters, unique in its session. None =
    none."""
    format_name: str | None = None
    """With the format "other", the program whose message this is, e.g. "claude-code": at most 64
    characters. None = the call's."""
    is_root: bool = False
    """Whether the message follows no other one and begins a branch of its own, such as an edited
    first prompt. Not together with parent_seq."""


MessageInput: TypeAlias = Blob | message_pb2.Message | Message | NewMessage


# protobuf takes UTF-8 bytes for a string, though its types do not say so.
_encode = cast("Callable[[Mapping[str, Any], str], str]", encode_or_refuse)


def to_proto(
    value: MessageInput,
    format: str | None,
    path: str,
    *,
    format_name: str | None = None,
    is_sent: bool = False,
) -> message_pb2.Message:
    """Return the protobuf message that stores a caller's message.

    A Message that was read is stored with its exact content, role, format, metadata and message_id,
    but without its parent_seq and is_root, because branches belong to a session.

    Args:
        value: the caller's message.
        format: the format of a dict or JSON text. None = determined by its shape, or "openai" if
            the shape is ambiguous.
        path: the field in the request, e.g. "messages[3]", for errors.
        format_name: the program that wrote a dict or JSON text of the format "other".
        is_sent: leave the format of plain text to the server, which knows the model's provider.

    Raises:
        InvalidField: if the message cannot be sent.
    """
    match value:
        case dict() | str():  # first, because most messages are one of the two
            return _provider_message(value, format, path, is_sent, format_name)
        case message_pb2.Message():
            return value
        case Message():
            return _stored_again(value.proto)
        case NewMessage():
            return _new_message(value, format, path, is_sent, format_name)
        case _:
            return _provider_message(value, format, path, is_sent, format_name)


def add_batch(
    batch: "RepeatedCompositeFieldContainer[message_pb2.Message]",
    messages: Iterable[MessageInput],
    format: str | None,
    *,
    format_name: str | None = None,
    is_sent: bool = False,
) -> None:
    """Add messages to a request's batch.

    Args:
        batch: the repeated field.
        messages: the messages.
        format: the format of dicts and JSON texts, as in to_proto.
        format_name: as in to_proto.
        is_sent: as in to_proto.

    Raises:
        InvalidField: if a message cannot be sent, or if a single message was given instead of a
            list.
    """
    check_list(messages)
    batch.extend(
        to_proto(message, format, f"messages[{i}]", format_name=format_name, is_sent=is_sent)
        for i, message in enumerate(messages)
    )


def check_list(messages: object, *, is_streamed: bool = False) -> None:
    """Refuse one message in place of a list: its keys or characters would pass for messages.

    Args:
        messages: the caller's messages.
        is_streamed: also accept an asynchronous iterable.

    Raises:
        InvalidField: if the value is not a list of messages.
    """
    if type(messages) is list:  # the usual case, without the slow checks of abstract classes
        return
    if isinstance(messages, Mapping | str | bytes | NewMessage | message_pb2.Message):
        raise invalid_field(
            "messages", "must be a list of messages; store_message takes a single one"
        )
    if not isinstance(messages, (Iterable, AsyncIterable) if is_streamed else Iterable):
        raise invalid_field(
            "messages", f"must be a list of messages, not {type(messages).__name__}"
        )


def _provider_message(
    value: Blob, format: str | None, path: str, is_sent: bool, format_name: str | None
) -> message_pb2.Message:
    result = message_pb2.Message()
    match value:
        case str():
            text = value
        case bytes():
            try:
                text = value.decode()
            except UnicodeDecodeError as error:
                raise invalid_field(
                    f"{path}.json", f"is not UTF-8: {error.reason} at byte {error.start}"
                ) from None
        case dict() | Mapping():
            text = _encode(value, path)
        case _:
            raise invalid_field(
                path,
                f"is of type {type(value).__name__}; it must be a dict, JSON text (str or bytes), a"
                " NewMessage or a Message (objects of a provider's SDK: give their dict,"
                ' model_dump(mode="json", exclude_none=True))',
            )
    try:
        result.json = text
    except UnicodeError:
        raise invalid_field(
            f"{path}.json", "is not valid Unicode: it holds a lone surrogate"
        ) from None
    if format_name is not None:
        try:
            result.format_name = format_name
        except (TypeError, ValueError) as error:
            raise invalid_field(f"{path}.format_name", f"cannot be sent: {error}") from error
        format = format or "other"
    if format is None:
        shape = value if isinstance(value, Mapping) else shapes.parsed(value)
        if is_sent and shapes.is_plain(shape):
            return result
        format = shapes.format_of(shape, path) or "openai"
    # The server reads the role from the JSON.
    result.format = number_of(FORMATS, format, "format")
    return result


def _new_message(
    value: NewMessage, format: str | None, path: str, is_sent: bool, format_name: str | None
) -> message_pb2.Message:
    if (value.blob is None) == (not value.parts):
        raise invalid_field(path, "needs either a blob or parts")
    if value.blob is not None:
        result = _provider_message(
            value.blob, value.format or format, path, is_sent, value.format_name or format_name
        )
    else:
        result = message_pb2.Message()
        for i, part in enumerate(listed(value.parts, f"{path}.parts")):
            try:
                result.parts.MergeFrom(message_pb2.Parts(parts=[part]))
            except (TypeError, ValueError) as error:
                raise invalid_field(f"{path}.parts[{i}]", f"cannot be sent: {error}") from error
    if value.role is not None:
        result.role = number_of(ROLES, value.role, f"{path}.role")
    if value.metadata is not None:
        fill_struct(result.metadata, value.metadata, f"{path}.metadata")
    if value.message_id is not None:
        try:
            result.message_id = value.message_id
        except (TypeError, ValueError) as error:
            raise invalid_field(f"{path}.message_id", f"cannot be sent: {error}") from error
    if value.is_root:
        result.is_root = True
    if value.parent_seq is not None:
        try:
            result.parent_seq = value.parent_seq
        except (TypeError, ValueError) as error:
            raise invalid_field(f"{path}.parent_seq", f"is not a seq: {error}") from error
    return result


def _stored_again(read: message_pb2.Message) -> message_pb2.Message:
    result = message_pb2.Message()
    result.CopyFrom(read)
    for field in (
        "seq",
        "create_time",
        "content_bytes",
        "parent_seq",
        "is_root",
        "token_count",
        "tokens_estimated",
        "turn",
        "incomplete",
    ):
        result.ClearField(field)
    return result
