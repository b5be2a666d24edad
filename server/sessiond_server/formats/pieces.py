"""The pieces into which a message of any format is split."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sessiond.v1.message_pb2 import FORMAT_OPENAI, Format, Role

JSON: TypeAlias = dict[str, Any]
MAIN_THREAD, UNNAMED_AGENT = "main", "?"
EVERYTHING, ANSWERS = "everything", "answers"
_ITEM_ENDS = ("_call", "_output", "_request", "_response", "_tools")


@dataclass(frozen=True, slots=True)
class Text:
    """Text that a person, a program or a model wrote.

    Attributes:
        source: the block of the stored message. None = no block.
        container: the document of the stored message that contains it. None = none.
    """

    text: str
    source: JSON | None = field(default=None, compare=False)
    container: JSON | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Media:
    """A file. At most one of data, uri, asset_id and file_id is set.

    Attributes:
        kind: "image", "audio", "video" or "file".
        media_type: the IANA media type. "" = unknown.
        data: the content in base64.
        uri: the address of the content.
        asset_id: the project's asset that holds the content.
        file_id: a provider's id of a file that was uploaded to the provider.
        name: a name for people to read. "" = none.
        source: the block of the stored message. None = no block.
        container: the document of the stored message that contains it. None = none.
    """

    kind: str
    media_type: str = ""
    data: str = ""
    uri: str = ""
    asset_id: str = ""
    file_id: str = ""
    name: str = ""
    source: JSON | None = field(default=None, compare=False)
    container: JSON | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool that the caller runs.

    Attributes:
        call_id: the call's id. "" = the format has none.
        name: the tool's name. "" = not given.
        arguments: JSON text, or whatever else the model wrote.
        is_custom: whether the arguments are free text, not JSON.
        source: the block of the stored message. None = no block.
    """

    call_id: str
    name: str
    arguments: str
    is_custom: bool = False
    source: JSON | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a tool call.

    Attributes:
        call_id: the call's id. "" = the format has none; the name and the order identify the call.
        name: the tool's name. "" = not given.
        pieces: the content that the tool returned.
        is_error: whether the tool failed.
        source: the block of the stored message. None = no block.
    """

    call_id: str
    name: str
    pieces: Sequence["Text | Media | Foreign"]
    is_error: bool = False
    source: JSON | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Thinking:
    """A model's reasoning.

    Attributes:
        text: the readable part. "" = none.
        signature: the signature by which the API recognises the reasoning, or the reasoning's
            encrypted form. "" = none.
        maker: the format of the API that produced it. FORMAT_UNSPECIFIED = unknown.
        source: the block of the stored message. None = no block.
    """

    text: str
    signature: str = ""
    maker: Format.ValueType = Format.FORMAT_UNSPECIFIED
    source: JSON | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Foreign:
    """Something that exists in one format only, such as a tool call that the provider ran itself.

    Attributes:
        kind: the type that the format uses for it.
        text: the readable part. "" = none.
        source: the block of the stored message.
        container: the document of the stored message that contains it. None = none.
    """

    kind: str
    text: str = ""
    source: JSON | None = field(default=None, compare=False)
    container: JSON | None = field(default=None, compare=False)


Piece: TypeAlias = Text | Media | Call | Result | Thinking | Foreign
Content: TypeAlias = Text | Media | Foreign


@dataclass(slots=True)
class Entry:
    """A stored message, split into pieces.

    Attributes:
        seq: the message's seq. 0 = not stored.
        role: the speaker's role.
        format: the format of the JSON. FORMAT_UNSPECIFIED = the message has typed parts.
        raw: the stored JSON text, plus the note if one was added. "" for typed parts, and for JSON
            that no API accepts as it is.
        value: the parsed JSON. {} for typed parts.
        pieces: the whole content, in order.
        extras: the fields that the pieces do not carry; a conversion loses them.
        is_cut_off: whether the message is an answer that was cut off; it ends with a note.
        is_hidden: whether the message is not part of the conversation, and is sent to no model.
        is_context: whether a program wrote this message in the user's name. Such a message does not
            show what the session is about.
        answer_id: the id of the model's answer that the message belongs to. Consecutive messages
            with the same id form one answer. "" = the format does not say.
        thread: MAIN_THREAD, or the id of the subagent that the message belongs to; UNNAMED_AGENT
            for a subagent without an id. "" = the format has no threads.
        replaces: which earlier messages the summary in this message replaces: EVERYTHING, or only
            the ANSWERS. "" = the message is not a summary that its program made.
        own_id: the id by which other messages of its program know the message. "" = none.
        keeps: the own_ids of earlier messages that the next summary does not replace.
        instructions: the instructions that the program gives the model with this message. They
            replace those of earlier messages, and stand before the history. "" = none.
        sayings: an entry with the same seq for each speaker, if the message has several speakers.
            [] = one speaker.
    """

    seq: int
    role: Role.ValueType
    format: Format.ValueType
    raw: str
    value: JSON
    pieces: list[Piece]
    extras: list[str] = field(default_factory=list)
    is_cut_off: bool = False
    is_hidden: bool = False
    is_context: bool = False
    answer_id: str = ""
    thread: str = ""
    replaces: str = ""
    own_id: str = ""
    keeps: Sequence[str] = ()
    instructions: str = ""
    sayings: list["Entry"] = field(default_factory=list)

    @property
    def is_item(self) -> bool:
        """Whether the message is an item of the Responses API; one answer has several items."""
        return self.is_nonmessage_item or (
            self.format == FORMAT_OPENAI and self.value.get("type") == "message"
        )

    @property
    def is_nonmessage_item(self) -> bool:
        """Whether the message is an item of the Responses API other than a message."""
        return self.format == FORMAT_OPENAI and is_nonmessage_item(self.value)

    @property
    def calls(self) -> list[Call]:
        return [piece for piece in self.pieces if isinstance(piece, Call)]


def is_nonmessage_item(value: JSON) -> bool:
    """Whether a JSON object of OpenAI is an item of the Responses API other than a message.

    Some programs give such an item a role.
    """
    kind = value.get("type")
    if value.get("role") is None:
        return True
    return (
        isinstance(kind, str)
        and (kind == "reasoning" or (kind.endswith(_ITEM_ENDS) and value.get("content") is None))
        and not value.get("tool_calls")
    )


def string_of(value: Any) -> str:
    """Return the value if it is a string, else ""."""
    return value if isinstance(value, str) else ""


def objects_of(value: Any) -> list[JSON]:
    """Return the objects of a list. [] for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def rest_of(value: JSON, known: frozenset[str], labels: frozenset[str] = frozenset()) -> list[str]:
    """Return those keys of an object whose values are not empty and are lost in a conversion.

    Args:
        value: the object.
        known: the keys that the pieces carry.
        labels: the keys that mean nothing to a model if their value is a string or a number, such
            as ids. An object in their place may mean anything.
    """
    return [
        key
        for key, item in value.items()
        if item not in (None, "", [], {})
        and (isinstance(item, dict | list) if key in labels else key not in known)
    ]
