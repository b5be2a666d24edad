"""The window: the newest part of a history, which a model receives.

The window grows with each turn until it exceeds a limit of the session's config. Then a new window
begins with a fraction of the limit. So the requests of most turns have a common beginning, and the
providers' caches can serve them.

A window never separates the calls of an answer from their results.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sessiond.v1.message_pb2 import ROLE_ASSISTANT, ROLE_DEVELOPER, ROLE_SYSTEM, ROLE_USER, Message
from sessiond_server.formats.pairing import Answer, Results, pair
from sessiond_server.formats.pieces import Entry, Result
from sessiond_server.formats.read import read
from sessiond_server.formats.read.conversation import read_all
from sessiond_server.formats.report import Report

INSTRUCTION_ROLES = (ROLE_SYSTEM, ROLE_DEVELOPER)


@dataclass(frozen=True, slots=True)
class WindowLimits:
    """The limits of a window. Instructions do not count: they are always sent.

    Attributes:
        max_messages: maximum number of messages. 0 = no limit.
        max_tokens: maximum number of tokens. 0 = no limit.
        keep_fraction: the fraction of a limit with which a new window begins; above 0, at most 1.
    """

    max_messages: int
    max_tokens: int
    keep_fraction: float

    def allow(self, count: int, tokens: int) -> bool:
        """Return whether messages are within the limits. A single message is always allowed."""
        return count <= 1 or not (0 < self.max_messages < count or 0 < self.max_tokens < tokens)

    @property
    def lowered(self) -> "WindowLimits":
        """The lower limits, within which a new window must be when it begins."""
        messages, tokens = (
            limit and max(1, int(limit * self.keep_fraction))
            for limit in (self.max_messages, self.max_tokens)
        )
        return WindowLimits(messages, tokens, self.keep_fraction)


@dataclass(frozen=True, slots=True)
class WindowUse:
    """How much of its limits a window uses.

    Attributes:
        limits: the limits.
        count: number of the window's messages, without instructions.
        tokens: number of tokens of these messages.
    """

    limits: WindowLimits
    count: int
    tokens: int

    @classmethod
    def of(cls, messages: Iterable[Message], limits: WindowLimits) -> "WindowUse":
        """Return the use of a window that consists of these messages."""
        counts = [message.token_count for message in messages if not is_instruction(message)]
        return cls(limits, len(counts), sum(counts))

    def plus(self, count: int, tokens: int) -> "WindowUse | None":
        """Return the use after an append of messages; None if a new window begins then."""
        count, tokens = self.count + count, self.tokens + tokens
        return WindowUse(self.limits, count, tokens) if self.limits.allow(count, tokens) else None


def is_instruction(message: Message) -> bool:
    """Whether a message has the role system or developer."""
    return message.role in INSTRUCTION_ROLES


def has_results(message: Message) -> bool:
    """Whether a message contains results of tool calls."""
    return _has_results(read(message))


def has_open_calls(newest_first: Sequence[Message], *, is_whole: bool) -> bool | None:
    """Return whether the last answer calls tools whose results are missing.

    Args:
        newest_first: the newest messages.
        is_whole: whether these are all messages of the history.

    Returns:
        None if it depends on earlier messages.
    """
    entries = read_all(reversed(newest_first))
    base = _pairing_base(entries, len(entries), is_whole=is_whole)
    if base is None:
        return None
    answers = [step for step in pair(entries[base:], Report()) if isinstance(step, Answer)]
    return any(call.result is None for answer in answers[-1:] for call in answer.calls)


def fitting(newest_first: Iterable[Message], limits: WindowLimits) -> int:
    """Return the number of newest messages that are within the limits."""
    size = count = tokens = 0
    for message in newest_first:
        if not is_instruction(message):
            count += 1
            tokens += message.token_count
            if not limits.allow(count, tokens):
                break
        size += 1
    return size


def window_size(newest_first: Sequence[Message], size: int, *, is_whole: bool) -> int | None:
    """Return the size of a window that does not separate calls from their results.

    Args:
        newest_first: the newest messages.
        size: the desired size. If it would separate calls from results, the window becomes smaller,
            or larger if it cannot become smaller.
        is_whole: whether these are all messages of the history.

    Returns:
        The size; None if it depends on earlier messages.
    """
    entries = read_all(reversed(newest_first))
    wanted = len(entries) - size
    base = _pairing_base(entries, wanted, is_whole=is_whole)
    if base is None:
        return None
    begins = _group_begins(entries[base:], base)
    newest = max(
        (i for i, entry in enumerate(entries) if entry.role not in INSTRUCTION_ROLES), default=0
    )
    first = next(
        (i for i in range(wanted, newest + 1) if begins[i - base] == i),
        begins[wanted - base],
    )
    return len(entries) - first


def _pairing_base(entries: Sequence[Entry], wanted: int, *, is_whole: bool) -> int | None:
    """Return the last place, up to `wanted`, at which the pairing of calls with results may begin.

    Either an answer begins at that place, or only messages without results are between that place
    and the next answer. So no result belongs to a call before that place. A hidden message does not
    end an answer.
    """
    rest = entries[wanted:]
    answer = next((i for i, entry in enumerate(rest) if _is_answer(entry)), len(rest))
    between = [entry for entry in rest[:answer] if not entry.is_hidden]
    if answer and not any(map(_has_results, between)) and (between or answer == len(rest)):
        return wanted
    begin = None
    for i in range(min(wanted, len(entries) - 1), -1, -1):
        if _is_answer(entries[i]):
            begin = i
        elif begin is not None and not entries[i].is_hidden:
            return begin
    return 0 if is_whole else None


def _group_begins(entries: Sequence[Entry], base: int) -> list[int]:
    """Return for each message the place at which its group begins.

    A group is an answer with its calls and their results.

    Args:
        entries: the messages.
        base: the place of the first message.
    """
    places = {entry.seq: place for place, entry in enumerate(entries, base)}
    begins = list(range(base, base + len(entries)))
    first = base
    for step in pair(entries, Report()):
        if isinstance(step, Answer):
            first = places[step.entries[0][0].seq]
            last = places[step.entries[-1][0].seq]
        elif isinstance(step, Results):
            last = max(
                (places[c.result_entry.seq] for c in step.calls if c.result_entry), default=first
            )
        else:
            continue
        for place in range(first, last + 1):
            begins[place - base] = min(begins[place - base], first)
    return begins


def _is_answer(entry: Entry) -> bool:
    return not entry.is_hidden and (entry.role == ROLE_ASSISTANT or bool(entry.calls))


def _has_results(entry: Entry) -> bool:
    return not entry.is_hidden and any(isinstance(piece, Result) for piece in entry.pieces)


class TaskSearch:
    """Finds the user message that the running tool loop works on.

    A loop begins with a user message, continues with answers that call tools, and ends with an
    answer that calls none.

    Attributes:
        seq: seq of the message, as far as known; 0 = no loop is running, or no user started it.
        is_done: whether earlier messages are irrelevant.
    """

    def __init__(self) -> None:
        self.seq = 0
        self.is_done = False
        self._is_loop = False
        # _is_answer: whether the message that was added last belongs to an answer. _has_calls:
        # whether one of the messages of this answer that were added so far has calls.
        self._is_answer = False
        self._has_calls = False

    def add(self, message: Message) -> None:
        """Add the message that precedes the last one added."""
        if is_instruction(message):
            return
        entry = read(message)
        if entry.is_hidden:
            return
        if _is_answer(entry):
            self._has_calls = bool(entry.calls) or (self._is_answer and self._has_calls)
            self._is_answer = True
            return
        self.end()
        self._is_answer = self._has_calls = False
        is_prompt = entry.role == ROLE_USER and not (
            entry.pieces and all(isinstance(piece, Result) for piece in entry.pieces)
        )
        if is_prompt and self._is_loop and not (self.is_done or self.seq):
            self.seq = entry.seq

    def end(self) -> None:
        """Record that no message precedes the message that was added last."""
        if self._is_answer:
            if self._has_calls and not self.is_done:
                self._is_loop, self.seq = True, 0
            else:
                self.is_done = True
