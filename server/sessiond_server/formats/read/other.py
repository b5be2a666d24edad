"""Messages of FORMAT_OTHER, in the own formats of the programs that wrote them.

READERS has a reader for each program whose messages the server can read. Such messages have roles,
texts and token counts, and turns send them to models. Messages of all other programs are only
stored: the server cannot give them to a model.
"""

from collections.abc import Callable, Iterable

from sessiond.v1.message_pb2 import (
    FORMAT_OTHER,
    ROLE_ASSISTANT,
    ROLE_OTHER,
    ROLE_SYSTEM,
    ROLE_TOOL,
    ROLE_USER,
    Message,
)
from sessiond_server.formats.parsing import parse
from sessiond_server.formats.pieces import JSON, Entry
from sessiond_server.formats.read.programs import (
    claude_code,
    codex,
    langchain,
    openai_agents,
    openai_export,
    pydantic_ai,
    sharegpt,
    strands,
)

Reader = Callable[[Entry], Iterable[Entry]]
"""Yields the content of a message: an entry for each speaker; none for a message that is no part
of the conversation. Accepts any JSON object."""

READERS: dict[str, Reader] = {
    # Unreadable lines that the import of transcripts has kept.
    "bad-line": lambda entry: (),
    "claude-code": claude_code.read,
    "codex": codex.read,
    "langchain": langchain.read,
    "openai-agents": openai_agents.read,
    "openai-export": openai_export.read,
    "pydantic-ai": pydantic_ai.read,
    "sharegpt": sharegpt.read,
    "strands": strands.read,
}
"""The reader of each format_name."""

# The role of a message with several speakers is the first of these roles that a speaker has.
_LEADING = (ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL, ROLE_SYSTEM)


def read(entry: Entry, format_name: str) -> Entry:
    """Split a message into pieces, and read its role. An unreadable message has no pieces.

    Args:
        entry: the stored message, with its value.
        format_name: the program that wrote it.
    """
    reader = READERS.get(format_name)
    if reader is None:
        return entry
    sayings = [*reader(entry)]
    if not sayings:
        entry.is_hidden = True
        return entry
    if len(sayings) == 1:
        sayings[0].instructions = entry.instructions
        return sayings[0]
    roles = {saying.role for saying in sayings}
    entry.role = next((role for role in _LEADING if role in roles), sayings[0].role)
    entry.pieces = [piece for saying in sayings for piece in saying.pieces]
    entry.is_context = all(saying.is_context for saying in sayings)
    # No provider accepts the stored JSON, so it must not be sent as it is.
    entry.raw, entry.value, entry.sayings = "", {}, sayings
    return entry


def read_json(message: Message, value: JSON) -> Entry:
    """Split a message that is not stored yet, given its parsed JSON.

    The role is that of the message, or else the one that the reader finds.
    """
    entry = read(Entry(0, ROLE_OTHER, FORMAT_OTHER, "", value, []), message.format_name)
    entry.role = message.role or entry.role
    return entry


def is_readable(message: Message) -> bool:
    """Whether the server can read a message. The message may still be a note of its program."""
    if message.format_name not in READERS:
        return False
    return message.format_name != "openai-agents" or not _is_sealed(message.json)


def _is_sealed(text: str | bytes) -> bool:
    # rpc/decoding.py reads the JSON of incoming messages as bytes.
    text = text.decode() if isinstance(text, bytes) else text
    if openai_agents.SEAL not in text:
        return False
    value = parse(text)
    return isinstance(value, dict) and openai_agents.is_sealed(value)


def unreadable(messages: Iterable[Message]) -> Message | None:
    """Return the first message that cannot be sent to any model; None if there is none."""
    return next(
        (
            message
            for message in messages
            if message.format == FORMAT_OTHER and not is_readable(message)
        ),
        None,
    )
