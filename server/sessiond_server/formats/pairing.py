"""Places the results of tool calls after their calls, as all APIs require.

Stored histories can differ from that: a prompt arrives while a tool still runs; a result is stored
late, twice or never; an id is reused. The stored history is not modified; only the order in the
request differs.

A result belongs to the nearest preceding call that has no result yet. It is moved to the call if no
answer of the model is in between, because then the call was never sent without its result. A
result that comes later, or a second time, stays in its place as text, because the model was already
told that there was no result. So the beginning of a history does not change once it was sent.
"""

import hashlib
import re
from collections import Counter, deque
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
# Ids shorter than this have no room for the text of the stored id.
READABLE_ID = 16


@dataclass(slots=True)
class Said:
    """A message from a user, a program or the system, without calls and results.

    Attributes:
        entry: the stored message.
        role: the speaker's role. It differs from the entry's role where a result became text.
        pieces: the content.
    """

    entry: Entry
    role: Role.ValueType
    pieces: list[Piece]


@dataclass(slots=True)
class Answer:
    """An answer of the model.

    Attributes:
        entries: the stored messages that form the answer, with their pieces; at least one.
        calls: the answer's calls, in order, each with its entry.
    """

    entries: list[tuple[Entry, list[Piece]]]
    calls: list["PairedCall"] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class PairedCall:
    """A call and its result.

    Attributes:
        call: the call as stored.
        entry: the message that contains the call.
        result: the result. None = missing.
        result_entry: the message that contains the result. None = missing.
        arrival: position of the result among all results, in stored order; missing results come
            last.
        wire_id: the call's id in the request.
        wire_name: the tool's name in the request.
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
    """The results of the preceding answer, in the order of its calls.

    Attributes:
        calls: all calls of the answer, with or without a result.
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
        # The last answer, and the messages since then, which are not answers.
        self._answer: Answer | None = None
        self._since: list[Said] = []
        self._has_results = False
        self._arrivals = 0
        self._open = _OpenCalls()
        # The calls of the last answer, and those of earlier answers, by id. They may have a result
        # or not.
        self._current: dict[str, PairedCall] = {}
        self._earlier: dict[str, PairedCall] = {}

    def run(self, entries: Sequence[Entry]) -> list[Step]:
        for entry in entries:
            if entry.is_hidden:
                continue
            if entry.role == ROLE_ASSISTANT or entry.calls:
                self._add_answer(entry)
            else:
                self._add_said(entry)
        self._close()
        return self._steps

    def _add_answer(self, entry: Entry) -> None:
        # A result in a message of the model belongs to a tool that the provider ran, or to no call.
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
            and (answer.calls or _are_of_one_answer(answer.entries[-1][0], entry))
        ):
            # These are parallel calls, or the items of one answer.
            answer.entries.append((entry, pieces))
        else:
            self._close()
            answer = self._answer = Answer([(entry, pieces)])
        for piece in pieces:
            if isinstance(piece, Call):
                paired = PairedCall(piece, entry)
                answer.calls.append(paired)
                self._open.add(paired)
                self._current.setdefault(piece.call_id, paired)

    def _add_said(self, entry: Entry) -> None:
        pieces: list[Piece] = []
        was_moved = bool(self._since)
        has_text = False
        for piece in entry.pieces:
            if not isinstance(piece, Result):
                pieces.append(piece)
                continue
            paired = self._open.find(piece)
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

    def _known(self, result: Result) -> PairedCall | None:
        """Return the call with the id that a result names, whether or not it is still open."""
        if not result.call_id:
            return None
        return self._current.get(result.call_id) or self._earlier.get(result.call_id)

    def _as_text(self, entry: Entry, result: Result, what: str) -> list[Piece]:
        self._report.add(entry.seq, ChangeKind.RESULT_AS_TEXT, result.call_id or result.name)
        known = self._known(result)
        name = result.name or (known.call.name if known else "")
        label = " ".join(filter(None, (f"[{what} of the tool call", result.call_id, name)))
        return [Text(f"{label}{', an error' if result.is_error else ''}]"), *result.pieces]

    def _close(self) -> None:
        """End the last answer. Its calls that have no result yet remain without one."""
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
        self._open, self._current = _OpenCalls(), {}


def _are_of_one_answer(first: Entry, second: Entry) -> bool:
    """Whether two consecutive entries belong to one answer of the model."""
    if first.answer_id or second.answer_id:
        return first.answer_id == second.answer_id
    return first.is_item and second.is_item


class _OpenCalls:
    """Finds the calls of one answer that have no result yet, without searching all calls."""

    def __init__(self) -> None:
        # Each call is in the queues ("any", NAME) and ("any", ""). A call with an id is also in the
        # queue ("id", ID), and a call without one in ("no id", NAME) and ("no id", "").
        self._queues: dict[tuple[str, str], deque[PairedCall]] = {}

    def add(self, paired: PairedCall) -> None:
        """Add a call, in order."""
        call = paired.call
        keys = {("any", call.name), ("any", "")}
        keys |= {("id", call.call_id)} if call.call_id else {("no id", call.name), ("no id", "")}
        for key in keys:
            self._queues.setdefault(key, deque()).append(paired)

    def find(self, result: Result) -> PairedCall | None:
        """Return the call that a result belongs to. None = no open call fits."""
        if not result.call_id:
            # Some formats have no ids: the name and the order identify the call.
            return self._first(("any", result.name))
        return self._first(("id", result.call_id)) or self._first(("no id", result.name))

    def _first(self, key: tuple[str, str]) -> PairedCall | None:
        queue = self._queues.get(key, deque())
        while queue and queue[0].result:
            queue.popleft()
        return queue[0] if queue else None


def assign_ids(
    steps: Sequence[Step],
    *,
    pattern: str,
    max_length: int,
    report: Report,
    min_length: int = 1,
    may_be_missing: bool = False,
) -> None:
    """Give each call an id that the API accepts and that no other call has.

    The same history always gets the same ids, and a longer history keeps the ids of its beginning.

    Args:
        steps: the history; the wire_id of each call is set.
        pattern: a regular expression for one character that an id may contain.
        max_length: maximum length of an id, in characters.
        report: receives the changes.
        min_length: minimum length of an id, in characters.
        may_be_missing: whether a call that is stored without an id stays without one.
    """
    namer = _Namer(pattern, min_length, max_length)
    places: Counter[int] = Counter()
    for paired in _calls(steps):
        places[paired.entry.seq] += 1
        if may_be_missing and not paired.call.call_id:
            continue
        # The place of a call in the session does not depend on where the history begins.
        place = f"{paired.entry.seq}.{places[paired.entry.seq]}"
        paired.wire_id = namer.id_of(paired.call.call_id, place)
        if paired.wire_id != paired.call.call_id:
            report.add(paired.entry.seq, ChangeKind.ID_CHANGED, paired.call.call_id)
            if paired.result_entry:
                report.add(paired.result_entry.seq, ChangeKind.ID_CHANGED, paired.call.call_id)


def assign_names(steps: Sequence[Step], *, pattern: str, max_length: int, report: Report) -> None:
    """Give each call a tool name that the API accepts; see assign_ids()."""
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
    def __init__(self, pattern: str, min_length: int, max_length: int) -> None:
        self._lengths = range(min_length, max_length + 1)
        self._odd = re.compile(f"(?!{pattern}).", re.DOTALL)
        self._max_length = max_length
        self._used: set[str] = set()

    def id_of(self, stored: str, place: str) -> str:
        name = self._odd.sub("_", stored)
        if name == stored and len(name) in self._lengths and name not in self._used:
            self._used.add(name)
            return name
        # Use a hash, not a number: a number could be the id of a later call.
        for attempt in count():
            digest = hashlib.sha256(f"{stored}\0{place}\0{attempt}".encode(errors="replace"))
            unique = digest.hexdigest()[: min(self._max_length, 32)]
            if self._max_length >= READABLE_ID:
                unique = f"{name[: self._max_length - 9] or 'call'}_{unique[:8]}"
            if unique not in self._used:
                break
        self._used.add(unique)
        return unique
