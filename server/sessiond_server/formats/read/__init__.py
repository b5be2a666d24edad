"""Splits stored messages of any format into pieces."""

from collections.abc import Callable

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_GEMINI,
    FORMAT_OPENAI,
    FORMAT_OTHER,
    Message,
)
from sessiond_server.formats.incomplete import NOTE, dumps, with_note
from sessiond_server.formats.parsing import parse
from sessiond_server.formats.pieces import Entry, Text
from sessiond_server.formats.read import anthropic, gemini, openai, other, parts

_READERS: dict[int, Callable[[Entry], None]] = {
    FORMAT_OPENAI: openai.read,
    FORMAT_ANTHROPIC: anthropic.read,
    FORMAT_GEMINI: gemini.read,
}


def read(message: Message) -> Entry:
    """Split a message into pieces.

    Everything in the message becomes a piece, or is named in the entry's extras. An answer that was
    cut off ends with a note that says so. A message of another program that is no part of the
    conversation is hidden. `conversation` hides further messages, which can be recognised only in
    the whole history.
    """
    value = parse(message.json) if message.json else {}
    value = value if isinstance(value, dict) else {}
    raw = message.json
    if message.incomplete and value:
        # The writers send the note as a part of the stored message.
        value = with_note(value, message.format)
        raw = dumps(value)
    entry = Entry(message.seq, message.role, message.format, raw, value, [])
    entry.is_cut_off = message.incomplete
    if message.HasField("parts"):
        entry.pieces += parts.read(message.parts.parts)
        if message.incomplete:
            entry.pieces.append(Text(NOTE))
    elif message.format == FORMAT_OTHER:
        entry = other.read(entry, message.format_name)
    elif message.format in _READERS:
        _READERS[message.format](entry)
    return entry
