"""Reads the items that the OpenAI Agents SDK keeps in its sessions."""

from collections.abc import Iterator

from sessiond.v1.message_pb2 import FORMAT_OPENAI
from sessiond_server.formats.pieces import JSON, Entry
from sessiond_server.formats.read.programs.native import native

SEAL = "__enc__"
"""The key by which an envelope of EncryptedSession is known."""


def is_sealed(value: JSON) -> bool:
    """Whether an item is an envelope that only its program can open."""
    return SEAL in value and "payload" in value


def read(entry: Entry) -> Iterator[Entry]:
    """Yield the item: a message, or an item of the Responses API; nothing for an envelope."""
    if not is_sealed(entry.value):
        yield native(entry, FORMAT_OPENAI, entry.value)
