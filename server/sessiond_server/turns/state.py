"""The turns of a process in memory: running turns, their limit, and changes of a transaction."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self
from uuid import UUID

from sessiond.v1.turn_pb2 import Usage
from sessiond_server.core.events import Event, StoredMessages
from sessiond_server.formats.report import Report
from sessiond_server.messages.store.history import LogHead
from sessiond_server.sessions.store.lock import Change
from sessiond_server.turns.requests.context import Policy
from sessiond_server.turns.store.rows import TurnRow
from sessiond_server.turns.texts.answer_text import AnswerText

MAX_ENDED = 1000


@dataclass(frozen=True, slots=True)
class TurnLease:
    """The lease under which a process runs turns.

    Attributes:
        holder: identifies the process.
        duration_s: maximum time until another process notices that a process has died, in seconds.
    """

    holder: UUID
    duration_s: float

    @property
    def stored_s(self) -> float:
        """Seconds without renewal after which the lease has run out.

        In the rest of duration_s, another process has to notice that the lease has run out.
        """
        return self.duration_s * 0.8

    @property
    def renewal_s(self) -> float:
        """Seconds between two renewals."""
        return self.duration_s / 5

    @property
    def look_s(self) -> float:
        """Seconds between two searches for turns that no process runs."""
        return self.duration_s / 15


class TurnSlots:
    """Limits the number of turns that run in this process, because each holds a history in memory.

    Args:
        limit: maximum number of turns running at once.
        is_draining: returns whether this process leaves queued turns to other processes.
    """

    def __init__(self, limit: int, *, is_draining: Callable[[], bool]) -> None:
        self._limit = limit
        self._is_draining = is_draining
        self._taken: set[UUID] = set()
        self._freed = asyncio.Event()
        self.is_closed = False

    @property
    def is_open(self) -> bool:
        """Whether this process starts turns at all."""
        return not (self.is_closed or self._is_draining())

    @property
    def room(self) -> int:
        """Number of further turns that may start."""
        return max(self._limit - len(self._taken), 0) if self.is_open else 0

    def try_take(self, turn_id: UUID) -> bool:
        """Take a slot for a turn that is about to start. Return whether there was one."""
        if self.room:
            self._taken.add(turn_id)
            return True
        return False

    def take(self, turn_id: UUID) -> None:
        """Take a slot for a turn that already runs, even beyond the limit."""
        self._taken.add(turn_id)

    def release(self, turn_id: UUID) -> None:
        """Free the slot of a turn, if it has one."""
        was_full = len(self._taken) >= self._limit
        self._taken.discard(turn_id)
        if was_full:
            self.wake()

    def wake(self) -> None:
        """Wake wait_for_room if there is room."""
        if self.room:
            self._freed.set()

    async def wait_for_room(self, timeout_s: float) -> None:
        """Wait until there may be room for queued turns again, for at most `timeout_s` seconds."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._freed.wait()
        except TimeoutError:
            return
        self._freed.clear()


@dataclass(frozen=True, slots=True)
class Source:
    """What determines the request of a turn, besides the messages of its history.

    Attributes:
        message_log: see messages.store.history.LogHead.
        epoch: see messages.store.history.LogHead.
        revision: see store/openings.Opening.
        model: the turn's model.
        options: hash of the turn's options.
    """

    message_log: UUID
    epoch: int
    revision: int
    model: str
    options: bytes


@dataclass(slots=True)
class RunningTurn:
    """A turn that this process runs.

    Attributes:
        end_seq: seq of the last message that the turn appended; 0 if there is none.
        after_seq: end_seq; if that is 0, the seq of the session's last message.
        epoch: the session's epoch, which does not change while a turn runs.
        keep_partial: whether the text of an answer that is cut off is kept.
        parent_seq: seq of the message that the model answers, even if other messages continue it; 0
            = the model answers the newest message of the branch of after_seq.
        text: the text that the model has written in the current call.
        reasoning: reasoning that has not been published.
        has_published: whether a delta has been published.
        flushing: timer that publishes the text received since the last published delta. None =
            there is no such text.
        has_saved: whether text of the turn may be in the database.
        began: time of the start, on the monotonic clock.
        is_over: set when another process has ended the turn, or when this one must abandon it.
        is_left: whether this process leaves the turn to others, because it is shut down.
        is_resumed: whether another process has begun the turn.
        usage: tokens of the model calls so far, in the order of the column; None if not reported.
        report: how the last request differed from the stored messages; None before the first
            request.
        row: the turn's row when this process took the turn.
        head: where the session's messages were stored at the start of the turn; None = unknown.
        policy: the session's policy at the start of the turn; None = unknown.
        source: what determined the request at the start of the turn; None = unknown.
        waiting_since: time on the monotonic clock since which the turn has waited for other turns;
            None = it does not wait.
    """

    key: UUID
    log: UUID
    project_id: UUID
    session_id: str
    turn_id: UUID
    model: str
    options: Mapping[str, Any]
    timeout_s: float
    end_seq: int
    after_seq: int
    epoch: int
    keep_partial: bool = True
    parent_seq: int = 0
    text: AnswerText = field(default_factory=AnswerText)
    reasoning: str = ""
    has_published: bool = False
    flushing: asyncio.TimerHandle | None = None
    has_saved: bool = False
    began: float = field(default_factory=time.monotonic)
    is_over: asyncio.Event = field(default_factory=asyncio.Event)
    is_left: bool = False
    is_resumed: bool = False
    usage: list[int] | None = None
    report: Report | None = None
    row: TurnRow | None = None
    head: LogHead | None = None
    policy: Policy | None = None
    source: Source | None = None
    waiting_since: float | None = None

    @property
    def remaining_s(self) -> float:
        """Seconds until the turn times out; 0 if it has timed out."""
        now = time.monotonic() if self.waiting_since is None else self.waiting_since
        return max(self.began + self.timeout_s - now, 0)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Do not count the time of the block, in which the turn waits for others, as turn time."""
        self.waiting_since = time.monotonic()
        try:
            yield
        finally:
            self.began += time.monotonic() - self.waiting_since
            self.waiting_since = None

    def add_usage(self, usage: Usage | None) -> None:
        """Add the tokens of a model call."""
        if usage is not None:
            counts = (
                usage.input_tokens,
                usage.output_tokens,
                usage.cached_input_tokens,
                usage.reasoning_tokens,
            )
            self.usage = [a + b for a, b in zip(self.usage or [0] * 4, counts, strict=True)]


@dataclass(slots=True, kw_only=True)
class TurnNews:
    """The changes that a commit makes to a session's turns.

    After the commit, the changes are published, and the started turn is run.

    Attributes:
        key: the session's key.
        log: the session's log.
        project_id: the session's project.
        session_id: the session's id.
        epoch: the session's epoch before the commit.
        stored: numbers of messages and of bytes of each append of the commit.
        rewound: the event of a rewind; None if the commit does not rewind the session.
        ended: the turns that have ended.
        started: the turn that has started.
        settled: id of the turn that is over for this process; None = no turn of this process is
            over.
        has_appended: whether messages were appended.
        messages: these messages, if they are known to be consecutive.
        is_idle: whether no turn is running or queued.
    """

    key: UUID
    log: UUID
    project_id: UUID
    session_id: str
    epoch: int
    stored: list[tuple[int, int]] = field(default_factory=list)
    rewound: Event | None = None
    ended: list[TurnRow] = field(default_factory=list)
    started: RunningTurn | None = None
    settled: UUID | None = None
    has_appended: bool = False
    messages: StoredMessages | None = None
    is_idle: bool = False


@dataclass(slots=True, kw_only=True)
class TurnChanges(TurnNews):
    """The changes of a transaction.

    Attributes:
        change: the transaction.
        is_full: whether a turn stayed queued because no slot was free.
        frozen: the turns whose texts the transaction stores.
    """

    change: Change
    is_full: bool = False
    frozen: list[RunningTurn] = field(default_factory=list)

    @classmethod
    def of(cls, change: Change, project_id: UUID, session_id: str) -> Self:
        """Return the changes of a transaction that has not changed anything."""
        return cls(
            change=change,
            key=change.key,
            log=change.log,
            project_id=project_id,
            session_id=session_id,
            epoch=change.epoch,
        )

    def freeze(self, running: RunningTurn) -> None:
        """Stop publishing a turn's text, until the transaction has failed."""
        running.text.is_frozen = True
        self.frozen.append(running)


class EndedTurns:
    """The last turns that ended in this process, for the Sends that stream them."""

    def __init__(self) -> None:
        self._rows: OrderedDict[UUID, TurnRow] = OrderedDict()

    def add(self, row: TurnRow) -> None:
        """Remember a turn, and forget the oldest one if there are too many."""
        self._rows[row.turn_id] = row
        if len(self._rows) > MAX_ENDED:
            self._rows.popitem(last=False)

    def get(self, turn_id: UUID) -> TurnRow | None:
        """Return a turn; None if it is not known to have ended."""
        return self._rows.get(turn_id)
