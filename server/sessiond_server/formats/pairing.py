"""Puts the results of tools behind their calls, as all APIs require.

Stored histories differ: a prompt arrives while a tool still runs, a result is stored late, twice or
never, an id is used again. The stored history stays as it is; only the order of a request differs.

A result belongs to the nearest call before it that has no result yet. It moves to the call if no
answer of the model lies between: then the model has not seen the call without it. A result that
comes later, or for the second time, stays in its place as text, because the model has already been
told that there was none; a prefix that was sent once does not change.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import inf
from operator import attrgetter
from typing import TypeAlias

from sessiond.v1.message_pb2 import ROLE_ASSISTANT, ROLE_USER, Role
from sessiond_server.formats.pieces import Call, Entry, Piece, Result, Text
from sessiond_server.formats.report import ChangeKind, Report

NO_RESULT = "(There is no result.)"
UNNAMED_TOOL = "unnamed_tool"


@dataclass(slots=True)
class Said:
    """What a user, a program or the system says: no calls, no results.

    Attributes:
        entry: the stored message.
        role: who speaks. It differs from the entry's where a result became text.
        pieces: what is said.
    """

    entry: Entry
    role: Role.ValueType
    pieces: list[Piece]


@dataclass(slots=True)
class Answer:
    """An answer of the model.

    Attributes:
        entries: the stored messages, with their pieces, that make it up; at least one.
        calls: its calls, in order, each with its entry.
    """

    entries: list[tuple[Entry, list[Piece]]]
    calls: list["PairedCall"] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class PairedCall:
    """A call and its result.

    Attributes:
        call: as stored.
        entry: the message of the call.
        result: None = there is none.
        result_entry: the message of the result. None = there is none.
        arrival: which of all results it is, in the stored order; a missing one is the last.
        wire_id: the id in the request.
        wire_name: the name in the request.
    """

    call: Call
    entry: Entry
    result: Result | None = None
    result_entry: Entry | None = None
    arrival: float = inf
    wire_id: str = ""
    wire_name: str = ""


@dataclass(slots=True)
class Results:
    """The results of the answer before them, in the order of its calls.

    Attributes:
        calls: all calls of the answer, whether they have a result or not.
    """

    calls: list[PairedCall]


def as_stored(calls: Sequence[PairedCall]) -> list[PairedCall]:
    """Return calls in the order in which their results were stored."""
    return sorted(calls, key=attrgetter("arrival"))


Step: TypeAlias = Said | Answer | Results


def pair(entries: Sequence[Entry], report: Report) -> list[Step]:
    """Arrange a history in steps: each answer with calls is followed by their results.

    Args:
        entries: the history, oldest first.
        report: receives the changes.
    """
    return _Pairing(report).run(entries)


class _Pairing:
    def __init__(self, report: Report) -> None:
        self._report = report
        self._steps: list[Step] = []
        # The last answer, and what was said since.
        self._answer: Answer | None = None
        self._since: list[Said] = []
        self._has_results = False
        self._arrivals = 0
        # Calls of earlier answers, by id; and those that were sent without a result.
        self._earlier: dict[str, PairedCall] = {}

    def run(self, entries: Sequence[Entry]) -> list[Step]:
        for entry in entries:
            if entry.role == ROLE_ASSISTANT or entry.calls:
                self._add_answer(entry)
            else:
                self._add_said(entry)
        self._close()
        return self._steps

    def _add_answer(self, entry: Entry) -> None:
        # Results in a message of the model are those of tools that it ran itself, or strays.
        pieces: list[Piece] = []
        for piece in entry.pieces:
            if isinstance(piece, Result):
                pieces += self._as_text(entry, piece, "result")
            else:
                pieces.append(piece)
        answer = self._answer
        if (
            answer
            and not (self._since or self._has_results)
            and (answer.calls or (entry.is_item and answer.entries[-1][0].is_item))
        ):
            # Parallel calls, and the items of one answer.
            answer.entries.append((entry, pieces))
        else:
            self._close()
            answer = self._answer = Answer([(entry, pieces)])
        answer.calls += [PairedCall(piece, entry) for piece in pieces if isinstance(piece, Call)]

    def _add_said(self, entry: Entry) -> None:
        pieces: list[Piece] = []
        was_moved = bool(self._since)
        has_text = False
        for piece in entry.pieces:
            if not isinstance(piece, Result):
                pieces.append(piece)
                continue
            paired = self._open_call(piece)
            if paired:
                paired.result, paired.result_entry = piece, entry
                self._arrivals += 1
                paired.arrival = self._arrivals
                self._has_results = True
                if was_moved or pieces:
                    self._report.add(entry.seq, ChangeKind.RESULT_MOVED, piece.call_id)
            else:
                known = self._known(piece)
                why = "late" if known and known.result is None else "another" if known else ""
                pieces += self._as_text(entry, piece, f"{why} result".strip())
                has_text = True
        if pieces or not entry.pieces:
            self._since.append(Said(entry, ROLE_USER if has_text else entry.role, pieces))

    def _open_call(self, result: Result) -> PairedCall | None:
        """Return the call of the last answer to which a result belongs, if it is open."""
        calls = [call for call in (self._answer.calls if self._answer else ()) if not call.result]
        by_id = [call for call in calls if call.call.call_id == result.call_id]
        if result.call_id and by_id:
            return by_id[0]
        # Some formats have no ids: the name and the order tell the call.
        named = [
            call
            for call in calls
            if (not result.call_id or not call.call.call_id) and result.name in ("", call.call.name)
        ]
        return named[0] if named else None

    def _known(self, result: Result) -> PairedCall | None:
        """Return the call that a result names though it is not open, if there is any."""
        for call in self._answer.calls if self._answer else ():
            if result.call_id and call.call.call_id == result.call_id:
                return call
        return self._earlier.get(result.call_id) if result.call_id else None

    def _as_text(self, entry: Entry, result: Result, what: str) -> list[Piece]:
        self._report.add(entry.seq, ChangeKind.RESULT_AS_TEXT, result.call_id or result.name)
        known = self._known(result)
        name = result.name or (known.call.name if known else "")
        label = " ".join(filter(None, (f"[{what} of the tool call", result.call_id, name)))
        return [Text(f"{label}{', an error' if result.is_error else ''}]"), *result.pieces]

    def _close(self) -> None:
        """End the last answer: what it calls and has no result yet remains without one."""
        if self._answer:
            self._steps.append(self._answer)
            if self._answer.calls:
                self._steps.append(Results(self._answer.calls))
            for paired in self._answer.calls:
                if paired.result is None:
                    self._report.add(
                        paired.entry.seq, ChangeKind.RESULT_MISSING, paired.call.call_id
                    )
                if paired.call.call_id:
                    self._earlier[paired.call.call_id] = paired
        self._steps += self._since
        self._answer, self._since, self._has_results = None, [], False


def assign_ids(steps: Sequence[Step], *, pattern: str, max_length: int, report: Report) -> None:
    """Give each call an id that the API accepts and that no other call has.

    The same history always gets the same ids: a longer one keeps those of its beginning.

    Args:
        steps: wire_id of their calls is set.
        pattern: a regular expression for one character that an id may have.
        max_length: of an id, in characters.
        report: receives the changes.
    """
    namer = _Namer(pattern, max_length)
    for paired in _calls(steps):
        paired.wire_id = namer.id_of(paired.call.call_id)
        if paired.wire_id != paired.call.call_id:
            report.add(paired.entry.seq, ChangeKind.ID_CHANGED, paired.call.call_id)
            if paired.result_entry:
                report.add(paired.result_entry.seq, ChangeKind.ID_CHANGED, paired.call.call_id)


def assign_names(steps: Sequence[Step], *, pattern: str, max_length: int, report: Report) -> None:
    """Give each call a tool's name that the API accepts; see assign_ids()."""
    for paired in _calls(steps):
        name = paired.call.name or (paired.result.name if paired.result else "")
        paired.wire_name = re.sub(f"(?!{pattern}).", "_", name, flags=re.DOTALL)[:max_length]
        if not paired.wire_name:
            paired.wire_name = UNNAMED_TOOL
        if paired.wire_name != paired.call.name:
            report.add(paired.entry.seq, ChangeKind.NAME_CHANGED, paired.call.name)


def _calls(steps: Sequence[Step]) -> Iterator[PairedCall]:
    for step in steps:
        if isinstance(step, Answer):
            yield from step.calls


class _Namer:
    def __init__(self, pattern: str, max_length: int) -> None:
        self._odd = re.compile(f"(?!{pattern}).", re.DOTALL)
        self._max_length = max_length
        self._used: set[str] = set()
        self._count = 0

    def id_of(self, stored: str) -> str:
        self._count += 1
        name = self._odd.sub("_", stored)
        if stored and name == stored and len(name) <= self._max_length and name not in self._used:
            self._used.add(name)
            return name
        # A hash, not a number: a number could be the id of a later call.
        for attempt in count():
            digest = hashlib.sha256(f"{stored}\0{self._count}\0{attempt}".encode(errors="replace"))
            suffix = digest.hexdigest()[:8]
            unique = f"{name[: self._max_length - 9] or 'call'}_{suffix}"
            if unique not in self._used:
                break
        self._used.add(unique)
        return unique
