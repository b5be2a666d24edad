"""The usage of a project: a count in the database, plus later changes by this process."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import structlog

from sessiond_server.core.work import begin_work
from sessiond_server.db.pool import (
    Contention,
    DatabaseUnavailable,
    PoolExhausted,
    StatementCanceled,
)
from sessiond_server.quotas.store import Usage

# Minimum time between counts, and the maximum share of a connection's time for them. A count of a
# million sessions takes about a second.
RECOUNT_S, RECOUNT_SHARE = 2.0, 0.02
# An older count is not used, because the project may have called other servers since.
OLD_S, OLD_SHARE = 10.0, 0.004
# A call that would be refused may request a newer count.
URGENT_RECOUNT_S, URGENT_RECOUNT_SHARE = 0.1, 0.1

Amounts = Mapping[str, int]
"""Amounts by the name of the limit that they count towards."""

log = structlog.get_logger(__name__)


class ProjectUsage:
    """The usage of one project.

    Each amount is either being stored, or was added since the last count, or is in the count. An
    amount that is stored during a count may count twice until the next count.

    Args:
        count: counts the amounts in the database.
        free_counts: limits the number of counts that run at once.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        count: Callable[[], Awaitable[Usage]],
        free_counts: asyncio.Semaphore,
        clock: Callable[[], float],
    ) -> None:
        self._count = count
        self._free_counts = free_counts
        self._clock = clock
        self._counted: Amounts | None = None
        self._counted_at = self._took_s = 0.0
        self._storing = Counter[str]()
        self._added = Counter[str]()
        self._counting: asyncio.Task[None] | None = None
        # Whether amounts were freed since the last count began.
        self._has_freed = False

    def used(self, name: str) -> int:
        """Return how much of a limit is used."""
        counted = self._counted[name] if self._counted else 0
        return max(0, counted + self._added[name] + self._storing[name])

    async def ready(self) -> None:
        """Wait until a count exists. An old count is renewed in the background."""
        if self._counted is None or self._is_older(OLD_S, OLD_SHARE):
            await self._recount()
        elif self._counting is None and self._is_older(RECOUNT_S, RECOUNT_SHARE):
            self._start().add_done_callback(_log_failure)

    async def renew(self) -> bool:
        """Count again, unless the last count is recent; return whether it counted.

        If amounts were freed since the last count began, even a recent count is renewed, provided
        that it took little time.
        """
        is_old = self._is_older(URGENT_RECOUNT_S, URGENT_RECOUNT_SHARE)
        if not is_old and not (self._has_freed and self._took_s <= URGENT_RECOUNT_S):
            return False
        await self._recount()
        if self._has_freed:
            # The count was already running when the amounts were freed.
            await self._recount()
        return True

    def note_freed(self) -> None:
        """Take note that some process has freed amounts, e.g. by deleting a session."""
        self._has_freed = True

    def add(self, amounts: Amounts) -> None:
        """Count amounts that are stored. Negative amounts were freed."""
        self._added.update(amounts)

    def begin(self, amounts: Amounts) -> None:
        """Count amounts that are about to be stored."""
        self._storing.update(amounts)

    def end(self, amounts: Amounts, *, is_stored: bool) -> None:
        """Count amounts of an earlier `begin` as stored, or discard them."""
        self._storing.subtract(amounts)
        if is_stored:
            self._added.update(amounts)

    def _is_older(self, age_s: float, share: float) -> bool:
        return self._clock() - self._counted_at >= max(age_s, self._took_s / share)

    async def _recount(self) -> None:
        # All callers share the count, so a cancellation of this caller must not end it.
        await asyncio.shield(self._start())

    def _start(self) -> asyncio.Task[None]:
        if self._counting is None:
            self._counting = asyncio.get_running_loop().create_task(self._run())
            self._counting.add_done_callback(self._forget)
        return self._counting

    def _forget(self, _: asyncio.Task[None]) -> None:
        self._counting = None

    async def _run(self) -> None:
        begin_work("usage")
        async with self._free_counts:
            began, before = self._clock(), self._added.copy()
            self._has_freed = False
            try:
                counted = await self._count()
            finally:
                self._counted_at = self._clock()
        # Remember the duration of successful counts only. During an outage, a count may take long
        # before it fails; the next count would then be postponed by minutes.
        self._took_s = self._counted_at - began
        self._counted = {
            "max_sessions": counted.sessions,
            "max_bytes": counted.bytes,
            "max_running_turns": counted.running_turns,
            "model_tokens_per_day": counted.model_tokens,
        }
        self._added.subtract(before)


def _log_failure(counting: asyncio.Task[None]) -> None:
    if counting.cancelled() or (error := counting.exception()) is None:
        return
    if isinstance(error, DatabaseUnavailable | PoolExhausted | Contention | StatementCanceled):
        log.warning("usage_count_retrying", error=str(error))
    else:
        log.error("usage_count_failed", exc_info=error)


class Reservation:
    """The amounts that a call has reserved, for the duration of an `async with` block.

    At the end of the block, they count as used. If the call was refused, they are released.
    """

    __slots__ = ("_amounts", "_usage")

    def __init__(self, usage: ProjectUsage | None, amounts: Amounts) -> None:
        self._usage = usage
        self._amounts = dict(amounts)
        if usage:
            usage.begin(self._amounts)

    def more(self, name: str, amount: int) -> None:
        """Reserve a further amount, which became known during the call."""
        if self._usage:
            self._usage.begin({name: amount})
            self._amounts[name] = self._amounts.get(name, 0) + amount

    def give_back(self) -> None:
        """Release the amounts, because nothing was stored."""
        if self._usage:
            self._usage.end(self._amounts, is_stored=False)
            self._usage = None

    def end(self, error: BaseException | None) -> None:
        """Release the amounts if the call was refused; otherwise count them as used."""
        if self._usage:
            # After a DatabaseUnavailable, a TimeoutError or a cancellation, it is unknown whether
            # the call was committed.
            is_refused = isinstance(error, Exception) and not isinstance(
                error, DatabaseUnavailable | TimeoutError
            )
            self._usage.end(self._amounts, is_stored=not is_refused)
            self._usage = None

    async def __aenter__(self) -> "Reservation":
        return self

    async def __aexit__(
        self, _type: object, error: BaseException | None, _traceback: object
    ) -> None:
        self.end(error)


NO_RESERVATION = Reservation(None, {})
