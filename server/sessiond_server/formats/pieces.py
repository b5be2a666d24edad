"""The pieces into which a message of any format is split."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sessiond.v1.message_pb2 import FORMAT_OPENAI, Format, Role

JSON: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Text:
    """Text that a person, a program or a model wrote.

    Attributes:
        source: the block of the stored message. None = there is none.
    """

    text: str
    source: JSON | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Media:
    """A file. At most one of data, uri, asset_id and file_id is set.

    Attributes:
        kind: "image", "audio", "video" or "file".
        media_type: the IANA media type. "" = unknown.
        data: the content in base64.
        uri: where the content is.
        asset_id: the asset of the project that has the content.
        file_id: a provider's name for a file that was uploaded to it.
        name: for people. "" = none.
        source: the block of the stored message. None = there is none.
    """

    kind: str
    media_type: str = ""
    data: str = ""
    uri: str = ""
    asset_id: str = ""
    file_id: str = ""
    name: str = ""
    source: JSON | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool that the caller runs.

    Attributes:
        call_id: "" = the format has none.
        name: the tool. "" = not given.
        arguments: JSON text, or what the model wrote in its place.
        is_custom: whether the arguments are free text and not JSON.
        source: the block of the stored message. None = there is none.
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
        call_id: of the call. "" = the format has none; name and order tell the call.
        name: the tool. "" = not given.
        pieces: what the tool returned.
        is_error: whether the tool failed.
        source: the block of the stored message. None = there is none.
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
        text: the readable part. "" = there is none.
        signature: what proves it to its maker, or its encrypted form. "" = none.
        maker: the format of its maker. FORMAT_UNSPECIFIED = unknown.
        source: the block of the stored message. None = there is none.
    """

    text: str
    signature: str = ""
    maker: Format.ValueType = Format.FORMAT_UNSPECIFIED
    source: JSON | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Foreign:
    """Something that only its own format has, such as a tool call that the provider ran itself.

    Attributes:
        kind: the type by which its format knows it.
        text: what can be read of it. "" = nothing.
        source: the block of the stored message.
    """

    kind: str
    text: str = ""
    source: JSON | None = field(default=None, compare=False)


Piece: TypeAlias = Text | Media | Call | Result | Thinking | Foreign
Content: TypeAlias = Text | Media | Foreign


@dataclass(slots=True)
class Entry:
    """A stored message, split into pieces.

    Attributes:
        seq: its place in the session. 0 = it is not stored.
        role: who speaks.
        format: of the JSON. FORMAT_UNSPECIFIED = the message has typed parts.
        raw: the stored JSON text. "" for typed parts.
        value: the parsed JSON. {} for typed parts.
        pieces: all that it contains, in order.
        extras: the fields that the pieces do not carry; a conversion loses them.
    """

    seq: int
    role: Role.ValueType
    format: Format.ValueType
    raw: str
    value: JSON
    pieces: list[Piece]
    extras: list[str] = field(default_factory=list)

    @property
    def is_item(self) -> bool:
        """Whether it is an item of the Responses API, of which one answer has several."""
        return self.format == FORMAT_OPENAI and (
            "role" not in self.value or self.value.get("type") == "message"
        )

    @property
    def calls(self) -> list[Call]:
        return [piece for piece in self.pieces if isinstance(piece, Call)]


def string_of(value: Any) -> str:
    """Return the value if it is a string, else ""."""
    return value if isinstance(value, str) else ""


def objects_of(value: Any) -> list[JSON]:
    """Return the objects of a list. [] for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def rest_of(value: JSON, known: frozenset[str]) -> list[str]:
    """Return the keys of an object that are not known and whose values say something."""
    return [
        key for key, item in value.items() if key not in known and item not in (None, "", [], {})
    ]
