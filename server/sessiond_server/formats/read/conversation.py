"""Reads a history, and finds the conversation in it.

Transcripts of programs also hold messages that are no part of the conversation: the program's
notes, the conversations of subagents, and messages that a summary of the program replaces.
"""

from collections.abc import Iterable, Sequence

from sessiond.v1.message_pb2 import ROLE_DEVELOPER, ROLE_SYSTEM, ROLE_USER, Message
from sessiond_server.formats.pieces import (
    ANSWERS,
    MAIN_THREAD,
    UNNAMED_AGENT,
    Entry,
    Piece,
    Result,
    Text,
)
from sessiond_server.formats.read import read
from sessiond_server.formats.report import ChangeKind, Report


def read_all(messages: Iterable[Message], report: Report | None = None) -> list[Entry]:
    """Split messages into pieces, and mark those that are no part of the conversation.

    Args:
        messages: the history, or its end, oldest first.
        report: receives the number of messages that a summary replaces. None = no report.

    Returns:
        An entry for each message.
    """
    entries = [read(message) for message in messages]
    _hide_other_agents(entries)
    _hide_replaced(entries, Report() if report is None else report)
    return entries


def spoken(entries: Iterable[Entry]) -> list[Entry]:
    """Return the conversation: an entry for each speaker of each message.

    The newest instructions of a program come first.
    """
    conversation: list[Entry] = []
    newest: Entry | None = None
    for entry in entries:
        if entry.instructions.strip():
            newest = entry
        if not entry.is_hidden:
            conversation += entry.sayings or (entry,)
    if newest:
        pieces: list[Piece] = [Text(newest.instructions)]
        conversation.insert(0, Entry(newest.seq, ROLE_SYSTEM, newest.format, "", {}, pieces))
    return conversation


def _hide_other_agents(entries: Sequence[Entry]) -> None:
    """Hide the lines of subagents, because the main agent's lines contain their results.

    A subagent's own transcript has no lines of a main agent, and remains visible.
    """
    has_main = False
    for entry in entries:
        if entry.thread == MAIN_THREAD:
            has_main = True
        elif entry.thread and (has_main or entry.thread == UNNAMED_AGENT):
            entry.is_hidden = True


def _hide_replaced(entries: Sequence[Entry], report: Report) -> None:
    """Hide the messages that the last summary replaces. Instructions remain."""
    found = [
        (place, saying.replaces)
        for place, entry in enumerate(entries)
        if not entry.is_hidden
        for saying in (entry.sayings or (entry,))
        if saying.replaces
    ]
    if not found:
        return
    place, replaces = found[-1]
    before = found[-2][0] if len(found) > 1 else 0
    kept = {name for entry in entries[before:place] for name in entry.keeps}
    hidden = 0
    for entry in entries[:place]:
        is_kept = (
            entry.role in (ROLE_SYSTEM, ROLE_DEVELOPER)
            or (replaces == ANSWERS and _is_prompt(entry))
            or entry.own_id in kept
        )
        if not (is_kept or entry.is_hidden):
            entry.is_hidden = True
            hidden += 1
    if hidden:
        what = "message" if hidden == 1 else "messages"
        detail = f"{hidden:,} {what} before this summary"
        report.add(entries[place].seq, ChangeKind.MESSAGE_OMITTED, detail)


def _is_prompt(entry: Entry) -> bool:
    return (
        entry.role == ROLE_USER
        and not entry.replaces
        and not any(isinstance(piece, Result) for piece in entry.pieces)
    )
