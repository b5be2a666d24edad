"""Reads providers' messages inside the messages of programs, and holds what all readers share."""

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_GEMINI,
    FORMAT_OPENAI,
    FORMAT_OTHER,
    ROLE_ASSISTANT,
    ROLE_DEVELOPER,
    ROLE_OTHER,
    ROLE_SYSTEM,
    ROLE_TOOL,
    ROLE_USER,
    Format,
    Role,
)
from sessiond_server.formats.parsing import dumps
from sessiond_server.formats.pieces import JSON, Content, Entry, Foreign, Piece, string_of
from sessiond_server.formats.read import anthropic, gemini, openai
from sessiond_server.formats.read.readable import readable

_READERS = {
    FORMAT_OPENAI: openai.read,
    FORMAT_ANTHROPIC: anthropic.read,
    FORMAT_GEMINI: gemini.read,
}
ROLES: dict[str, Role.ValueType] = {
    "system": ROLE_SYSTEM,
    "developer": ROLE_DEVELOPER,
    "user": ROLE_USER,
    "human": ROLE_USER,
    "assistant": ROLE_ASSISTANT,
    "model": ROLE_ASSISTANT,
    "tool": ROLE_TOOL,
    "function": ROLE_TOOL,
}
"""The roles of OpenAI's, Anthropic's and Gemini's messages, and of the programs that follow them.
"""
# The formats of the APIs that sign reasoning, by the providers' names in frameworks. A cloud that
# serves another company's models is not listed: it may sign differently.
MAKERS: dict[str, Format.ValueType] = {
    "openai": FORMAT_OPENAI,
    "anthropic": FORMAT_ANTHROPIC,
    "google": FORMAT_GEMINI,
    "google-gla": FORMAT_GEMINI,
}


def said(entry: Entry, role: Role.ValueType, pieces: list[Piece]) -> Entry:
    """Return the content of one speaker in a stored message.

    Args:
        entry: the stored message.
        role: the speaker's role.
        pieces: the content.
    """
    return Entry(entry.seq, role, FORMAT_OTHER, "", {}, pieces, is_cut_off=entry.is_cut_off)


def native(entry: Entry, message_format: Format.ValueType, value: JSON) -> Entry:
    """Return a provider's message inside a stored message.

    A message whose role the format does not have becomes one piece with its readable text.

    Args:
        entry: the stored message.
        message_format: the provider's format.
        value: the provider's message.
    """
    role = role_of(value, message_format)
    if role is None:
        kind = string_of(value.get("type")) or "message"
        return said(entry, ROLE_OTHER, [Foreign(kind, readable(value))])
    raw = entry.raw if value is entry.value else dumps(value)
    inner = Entry(entry.seq, role, message_format, raw, value, [], is_cut_off=entry.is_cut_off)
    _READERS[message_format](inner)
    return inner


def role_of(value: JSON, message_format: Format.ValueType) -> Role.ValueType | None:
    """Return the role of a provider's message. None = it is no message of the format."""
    role, kind = value.get("role"), value.get("type")
    if role is not None:
        return ROLES.get(role) if isinstance(role, str) else None
    if message_format == FORMAT_OPENAI and isinstance(kind, str):
        return ROLE_TOOL if kind.endswith(("_output", "_response")) else ROLE_ASSISTANT
    return None


def foreign(block: JSON, kind: str = "") -> Foreign:
    """Return a block that no provider knows, with its readable text."""
    return Foreign(kind or string_of(block.get("type")) or "block", readable(block))


def content_of(value: object) -> list[Content]:
    """Split a text, or JSON that a tool returned."""
    return [*openai.content(value, of_tool=True)]
