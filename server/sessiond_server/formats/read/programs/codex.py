"""Reads the lines of Codex's rollouts.

A line of the type "response_item" holds an item of the Responses API. Events repeat the items for
the screen, and other lines describe the session.
"""

import re
from collections.abc import Iterator

from sessiond.v1.message_pb2 import FORMAT_OPENAI, ROLE_USER
from sessiond_server.formats.pieces import (
    ANSWERS,
    EVERYTHING,
    JSON,
    Entry,
    Text,
    objects_of,
    string_of,
)
from sessiond_server.formats.read.programs.native import native, said

# Items that the program keeps for itself.
_NOTES = ("ghost_snapshot", "other")
# Summaries that only OpenAI can read.
_SEALED = ("compaction", "compaction_summary", "context_compaction")
# Texts that the program writes in the user's name: tags, and the instructions of the repository.
_PROGRAMS_TEXT = re.compile(r"\s*(<[a-z_]+[ >]|# AGENTS\.md)")


def read(entry: Entry) -> Iterator[Entry]:
    """Yield the content of a line; nothing for an event or a note of the program."""
    value = entry.value
    kind, payload = value.get("type"), value.get("payload")
    if kind == "response_item" and isinstance(payload, dict):
        yield from _item(entry, payload)
    elif kind == "compacted" and isinstance(payload, dict):
        yield from _compacted(entry, payload)
    elif "payload" not in value and "record_type" not in value and isinstance(kind, str):
        # In the first versions, the line itself is the item.
        yield from _item(entry, value)


def _item(entry: Entry, item: JSON) -> Iterator[Entry]:
    if item.get("type") in _NOTES:
        return
    inner = native(entry, FORMAT_OPENAI, item)
    first = next((piece.text for piece in inner.pieces if isinstance(piece, Text)), "")
    inner.is_context = _PROGRAMS_TEXT.match(first) is not None
    yield inner


def _compacted(entry: Entry, payload: JSON) -> Iterator[Entry]:
    """Yield the history that replaces all earlier lines; older versions have only a summary."""
    replacement = objects_of(payload.get("replacement_history"))
    items = [inner for item in replacement for inner in _item(entry, item)]
    if any(item.get("type") in _SEALED for item in replacement):
        # Only OpenAI can read the summary; the lines before it can be sent to any model.
        return
    if items:
        for inner in items:
            inner.is_context = True
        items[0].replaces = EVERYTHING
        yield from items
    elif text := string_of(payload.get("message")):
        # The program keeps the user's prompts in addition to the summary.
        summary = said(entry, ROLE_USER, [Text(text)])
        summary.is_context, summary.replaces = True, ANSWERS
        yield summary
