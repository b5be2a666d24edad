"""Messages of FORMAT_OTHER, in formats that only the programs that wrote them know.

Most of them cannot be read: they are kept, and no model can be given them. A reader that is added
to READERS gives the messages of its program text, tokens and turns.
"""

from collections.abc import Callable, Iterable

from sessiond.v1.message_pb2 import FORMAT_OTHER, Message
from sessiond_server.formats.pieces import JSON, Entry, Piece

READERS: dict[str, Callable[[Entry], None]] = {}
"""The reader of each format_name. It fills the pieces of an entry from its value, and may set its
role."""


def read(entry: Entry, format_name: str) -> None:
    """Split a message into pieces; an unreadable one has none."""
    if reader := READERS.get(format_name):
        reader(entry)


def pieces_of(message: Message, value: JSON) -> list[Piece]:
    """Return the pieces of a message, given its parsed JSON."""
    entry = Entry(message.seq, message.role, message.format, "", value, [])
    read(entry, message.format_name)
    return entry.pieces


def unreadable(messages: Iterable[Message]) -> Message | None:
    """Return the first message that no model can be given; None if there is none."""
    return next(
        (
            message
            for message in messages
            if message.format == FORMAT_OTHER and message.format_name not in READERS
        ),
        None,
    )
