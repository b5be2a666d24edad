"""Appends that wait in the queues of JoinedAppends, and those that are stored together."""

import asyncio
from collections import deque
from collections.abc import Sequence
from uuid import UUID

from sessiond_server.core.cancellation import cancel_started
from sessiond_server.core.errors import Fault
from sessiond_server.core.limits import Limits
from sessiond_server.messages.append import PreparedAppend
from sessiond_server.messages.store.append import Appended

# Number of shared statements that may leave an append out because its session is locked. After
# that, the append is stored alone.
MAX_SKIPS = 2

# While this many statements run, further appends wait for one of them, and then share a statement.
# They wait at most MAX_WAIT_S, because a statement that takes longer is itself waiting for a lock
# or a disk.
MAX_IN_FLIGHT = 2
MAX_WAIT_S = 0.02


class WaitingAppend:
    """An append that has been submitted.

    Attributes:
        prepared: the append.
        ended: the result; cancelled once the caller has given up.
        group: the group of appends that is stored in the same statement as this one; None while
            this append waits.
        is_due: whether the caller's time is nearly over.
        must_be_alone: whether it must be stored alone, because shared statements did not store it.
        lock_timeouts: how often in a row it met a lock other than the one on its session's row.
        times_locked: how often it was not stored because its session's row was locked.
        has_looked: whether it has waited until its session was free.
        has_met_lock: whether its own statement has met a lock since that wait.
    """

    __slots__ = ("ended", "group", "has_looked", "has_met_lock", "is_due", "lock_timeouts",
                 "must_be_alone", "prepared", "times_locked")  # fmt: skip

    def __init__(self, prepared: PreparedAppend, *, has_met_lock: bool = False) -> None:
        self.prepared = prepared
        self.ended: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self.group: Group | None = None
        self.is_due = False
        self.must_be_alone = False
        self.lock_timeouts = 0
        self.times_locked = 0
        self.has_looked = False
        self.has_met_lock = has_met_lock

    @property
    def key(self) -> UUID:
        """Key of the session."""
        return self.prepared.append.key

    def note_wait(self, *, was_locked: bool) -> bool:
        """Record that the append waited until its session was free.

        Args:
            was_locked: whether its session's row was found locked. False = it was free at the first
                check.

        Returns:
            Whether the append had met a lock other than the one on its session's row, such as one
            on a table.
        """
        met_other = self.has_met_lock and not was_locked
        self.has_looked = True
        self.has_met_lock = False
        self.times_locked += was_locked
        # The append's own statement waits for the lock. A shared statement skips locked rows, so it
        # might never find the row free if other servers keep locking it.
        self.must_be_alone = not was_locked or self.times_locked >= MAX_SKIPS
        self.lock_timeouts = self.lock_timeouts + 1 if met_other else 0
        return met_other

    def fail(self, error: Exception) -> None:
        """End the append with an error, unless the caller has given up."""
        if not self.ended.done():
            self.ended.set_exception(error)


Series = list[WaitingAppend]
"""Consecutive appends to one session."""


class Group:
    """Several series of appends that are stored together, each to a different session."""

    __slots__ = ("all_series", "task")

    def __init__(self, all_series: Sequence[Series]) -> None:
        self.all_series = all_series
        self.task: asyncio.Task[None] | None = None
        for series in all_series:
            for one in series:
                one.group = self

    def cancel_if_abandoned(self) -> None:
        if self.task and all(one.ended.done() for series in self.all_series for one in series):
            cancel_started(self.task)


class Slot:
    """A statement that has not ended.

    Attributes:
        is_alone: whether the statement stores one append that no shared statement can store.
        awaited_until: time, by the event loop's clock, until which other appends wait for the
            statement.
    """

    __slots__ = ("awaited_until", "is_alone")

    def __init__(self, awaited_until: float, *, is_alone: bool) -> None:
        self.awaited_until = awaited_until
        self.is_alone = is_alone


class Statements:
    """The running statements, and their limits.

    Attributes:
        meet_locks: whether the last ended statement found a table locked. Until a statement
            succeeds, only one runs at a time, because all would wait for the same lock, each with a
            connection of the pool.
        alone_meet_locks: the same for appends that are stored alone. These appends may need tables
            that other appends do not need, such as the table of the assets.
    """

    __slots__ = ("_alone", "_awaited", "_count", "_most", "alone_meet_locks", "meet_locks")

    def __init__(self, most: int) -> None:
        self._most = max(1, most)
        # The number of all running statements, awaited or not.
        self._count = 0
        self._alone = 0
        # Running statements that other appends wait for, the oldest first.
        self._awaited: dict[Slot, None] = {}
        self.meet_locks = self.alone_meet_locks = False

    @property
    def has_room_alone(self) -> bool:
        """Whether one more append may be stored alone. At most half of the statements do that."""
        return self._alone < (1 if self.alone_meet_locks else max(1, self._most // 2))

    @property
    def free(self) -> int:
        """The number of further statements that may start."""
        return (1 if self.meet_locks else self._most) - self._count

    @property
    def free_awaited(self) -> int:
        """The number of further statements that may start and that other appends then wait for."""
        return min(MAX_IN_FLIGHT - len(self._awaited), self.free)

    @property
    def are_slow(self) -> bool:
        """Whether a statement takes so long that it may wait for a lock."""
        return self._count > len(self._awaited)

    @property
    def oldest(self) -> Slot | None:
        """The oldest statement that other appends wait for."""
        return next(iter(self._awaited), None)

    def begin(self, *, is_alone: bool = False) -> Slot:
        """Count a statement that begins, even above the limit."""
        slot = Slot(asyncio.get_running_loop().time() + MAX_WAIT_S, is_alone=is_alone)
        self._alone += is_alone
        # Only store_whole begins statements beyond MAX_IN_FLIGHT. No other append waits for those.
        if len(self._awaited) < MAX_IN_FLIGHT:
            self._awaited[slot] = None
        self._count += 1
        return slot

    def pass_by(self) -> None:
        """Let no append wait any longer for the statements that have taken MAX_WAIT_S."""
        # A timer of uvloop may run up to a millisecond early.
        now = asyncio.get_running_loop().time() + 0.001
        for slot in [slot for slot in self._awaited if slot.awaited_until <= now]:
            del self._awaited[slot]

    def note_success(self, prepared: PreparedAppend) -> None:
        """Record that an append was stored by a statement of its own."""
        self.meet_locks = False
        if not can_share(prepared):
            self.alone_meet_locks = False

    def note_lock(self, prepared: PreparedAppend) -> None:
        """Record that an append met a lock other than the one on its session's row."""
        if can_share(prepared):
            self.meet_locks = True
        else:
            self.alone_meet_locks = True

    def ended(self, slot: Slot) -> None:
        """Record the end of a statement."""
        self._count -= 1
        self._alone -= slot.is_alone
        self._awaited.pop(slot, None)


class Room:
    """How many further appends, messages and bytes of content a statement may store."""

    def __init__(self, most: int, limits: Limits) -> None:
        self._appends = most
        self._messages = limits.max_batch_messages
        self._bytes = limits.max_batch_bytes

    def fill(self, queue: deque[WaitingAppend], *, is_first: bool) -> Series:
        """Remove and return the appends at the front of a queue that fit into the statement.

        Args:
            queue: the appends of a session. The first one is joinable.
            is_first: whether to take the first append even if it does not fit.
        """
        series: Series = []
        request_ids: set[str] = set()
        while queue:
            one = queue[0]
            append = one.prepared.append
            if one.ended.done():
                queue.popleft()
                continue
            fits = (
                self._appends > 0
                and append.totals.count <= self._messages
                and append.totals.content_bytes <= self._bytes
            )
            if not fits and (series or not is_first):
                break
            if series and (
                not is_joinable(one)
                or append.expected_last_seq is not None
                or append.expected_epoch is not None
                or append.request_id in request_ids
            ):
                break
            self._appends -= 1
            self._messages -= append.totals.count
            self._bytes -= append.totals.content_bytes
            if append.request_id:
                request_ids.add(append.request_id)
            series.append(queue.popleft())
        return series


def is_joinable(one: WaitingAppend) -> bool:
    """Return whether a shared statement can store an append."""
    return not one.must_be_alone and can_share(one.prepared)


def fit_together(requests: Sequence[PreparedAppend], limits: Limits) -> bool:
    """Return whether a shared statement can store several appends, each to a different session."""
    messages = content_bytes = 0
    for one in requests:
        if not can_share(one):
            return False
        messages += one.append.totals.count
        content_bytes += one.append.totals.content_bytes
    return (
        len(requests) > 1
        and messages <= limits.max_batch_messages
        and content_bytes <= limits.max_batch_bytes
        and len({one.append.key for one in requests}) == len(requests)
    )


def can_share(one: PreparedAppend) -> bool:
    """Return whether a shared statement can store an append, judged by the append's content."""
    # A shared statement locks no assets, stores no parents and no message_ids, and changes no
    # states.
    return bool(one.rows) and one.append.is_plain and not one.append.message_ids


def overloaded(session_id: str) -> Fault:
    """Return the fault for an append that waited for too long, and was not stored."""
    return Fault(
        "OVERLOADED",
        f"this server could not store the append to session {session_id!r} in time; nothing was "
        "stored, try again",
        metadata={"session_id": session_id},
        retry_after_s=0.5,
    )
