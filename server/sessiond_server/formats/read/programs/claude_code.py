"""Reads the lines of transcripts of Claude Code and of the Claude Agent SDK.

A line of the types "user" and "assistant" holds a message of Anthropic's API. Most other lines are
the program's own notes: summaries for its menu, snapshots of files, progress, queues, hooks.
"""

from collections.abc import Iterator

from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC, ROLE_USER
from sessiond_server.formats.pieces import (
    EVERYTHING,
    JSON,
    MAIN_THREAD,
    UNNAMED_AGENT,
    Entry,
    Text,
    string_of,
)
from sessiond_server.formats.read import anthropic
from sessiond_server.formats.read.programs.native import foreign, native, said

# Beginnings of the texts that the program writes in the user's name.
_PROGRAMS_TEXTS = (
    *("<command-name>", "<command-message>", "<local-command-", "<bash-", "<system-reminder>"),
    *("Caveat: The messages below", "[Request interrupted by user"),
)
# Attachments in which the user shows something to the model. The others are left out: they hold
# reminders and states of the program.
_SHOWN_ATTACHMENTS = (
    *("file", "directory", "edited_text_file", "selected_lines_in_ide", "opened_file_in_ide"),
    *("nested_memory", "mcp_resource", "pdf_reference", "compact_file_reference"),
)


def read(entry: Entry) -> Iterator[Entry]:
    """Yield the content of a line; nothing for a note of the program."""
    value = entry.value
    kind, message = value.get("type"), value.get("message")
    if kind in ("user", "assistant") and isinstance(message, dict):
        line = _message(entry, kind, message)
    elif kind == "attachment" and isinstance(attachment := value.get("attachment"), dict):
        line = _attachment(entry, attachment)
    else:
        if kind == "system":
            entry.keeps = _kept(value.get("compactMetadata"))
        line = None
    if line is None:
        return
    line.own_id, line.thread = string_of(value.get("uuid")), MAIN_THREAD
    if value.get("isSidechain") is True:
        line.thread = string_of(value.get("agentId")) or UNNAMED_AGENT
    yield line


def _kept(compaction: object) -> list[str]:
    """Return the uuids of the lines that a compaction has kept in addition to its summary."""
    kept = compaction.get("preservedMessages") if isinstance(compaction, dict) else None
    uuids = kept.get("uuids") if isinstance(kept, dict) else None
    return [*filter(None, map(string_of, uuids))] if isinstance(uuids, list) else []


def _message(entry: Entry, kind: str, message: JSON) -> Entry | None:
    value = entry.value
    is_summary = value.get("isCompactSummary") is True
    if value.get("isApiErrorMessage") is True:
        return None
    if value.get("isVisibleInTranscriptOnly") is True and not is_summary:
        return None
    if message.get("role") != kind:
        message = {**message, "role": kind}
    line = native(entry, FORMAT_ANTHROPIC, message)
    if kind == "assistant":
        # An answer takes several lines, with one block each.
        line.answer_id = string_of(message.get("id"))
    else:
        first = next((piece.text for piece in line.pieces if isinstance(piece, Text)), "")
        line.is_context = (
            is_summary or value.get("isMeta") is True or first.lstrip().startswith(_PROGRAMS_TEXTS)
        )
        line.replaces = EVERYTHING if is_summary else ""
    return line


def _attachment(entry: Entry, attachment: JSON) -> Entry | None:
    kind = attachment.get("type")
    if kind == "queued_command":
        # A prompt that the user wrote while the model worked.
        return said(entry, ROLE_USER, [*anthropic.blocks(attachment.get("prompt"))])
    if kind in _SHOWN_ATTACHMENTS:
        line = said(entry, ROLE_USER, [foreign(attachment)])
        line.is_context = True
        return line
    return None
