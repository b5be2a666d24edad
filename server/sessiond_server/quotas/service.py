"""Enforces the limits of projects, in memory as far as possible.

A project is kept in memory while it has limits and sends calls. For any other project, each check
is one look-up in a dict.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol, TypeAlias, TypeVar
from uuid import UUID, uuid4

import structlog

from sessiond_server.core.errors import Fault
from sessiond_server.core.events import DELETED, EXPIRED, REWOUND, Event
from sessiond_server.db.pool import (
    Contention,
    DatabaseUnavailable,
    PoolExhausted,
    StatementCanceled,
)
from sessiond_server.quotas.limits import NO_LIMITS, ProjectLimits
from sessiond_server.quotas.rates import Meter, TokenBucket
from sessiond_server.quotas.store import Usage
from sessiond_server.quotas.usage import NO_RESERVATION, ProjectUsage, Reservation
from sessiond_server.telemetry import metrics

# A project without calls for this long is forgotten. This must be longer than the time for which
# keys are cached, because a project becomes known when one of its keys is looked up.
IDLE_S = 3600.0
FLUSH_S = 2.0
FORGET_S = 3600.0

# Maximum number of concurrent counts. A count reads the rows of all sessions of a project, and
# other calls need the connections.
MAX_COUNTS = 2

_FREEING = frozenset({DELETED, EXPIRED, REWOUND})

# Retry time for a project that has its maximum number of turns. It is unknown when one of these
# turns will end. Unit: seconds.
TURN_RETRY_S = 1.0

Piece = TypeVar("Piece")
Unless: TypeAlias = Callable[[], Awaitable[bool]]

log = structlog.get_logger(__name__)


class UsageStore(Protocol):
    """Counts the usage of projects."""

    async def usage(self, project_id: UUID) -> Usage:
        """Count the usage of a project."""

    async def add_tokens(self, count_id: UUID, tokens: Mapping[UUID, int]) -> None:
        """Add tokens to today's counts, by project, unless count_id has been used before."""

    async def forget_tokens(self) -> None:
        """Delete old counts of tokens."""


class _Rate:
    """One limited rate of a project."""

    __slots__ = ("bucket", "limit", "meter", "name")

    def __init__(self, name: str, limit: int, clock: Callable[[], float]) -> None:
        self.name = name
        self.limit = limit
        self.bucket = TokenBucket(limit, clock)
        self.meter = Meter(clock)

    def take(self, count: int) -> None:
        """Take tokens.

        Raises:
            Fault: RATE_LIMITED.
        """
        if wait_s := self.bucket.take(count):
            raise rate_limited(self.name, self.limit, self.meter.rate(), wait_s)
        self.meter.add(count)


class _Project:
    """A project that has limits.

    Attributes:
        limits: the effective limits.
        used_at: time of the last call.
        usage: the usage of the project.
    """

    def __init__(self, clock: Callable[[], float], usage: ProjectUsage) -> None:
        self._clock = clock
        self.limits = NO_LIMITS
        self.used_at = clock()
        self.calls: _Rate | None = None
        self.messages: _Rate | None = None
        self.usage = usage

    def set_limits(self, limits: ProjectLimits) -> None:
        self.limits = limits
        self.calls = self._rate(self.calls, "calls_per_second", limits.calls_per_second)
        self.messages = self._rate(self.messages, "messages_per_second", limits.messages_per_second)

    def exceeded(self, amounts: Mapping[str, int]) -> Fault | None:
        """Return the fault for the first limit that the amounts would exceed; None if none."""
        for name, amount in amounts.items():
            limit = getattr(self.limits, name)
            used = self.usage.used(name)
            if limit is not None and used + amount > limit:
                return quota_exceeded(name, limit, used)
        return None

    def _rate(self, rate: _Rate | None, name: str, limit: int | None) -> _Rate | None:
        if limit is None:
            return None
        return rate if rate and rate.limit == limit else _Rate(name, limit, self._clock)


class Quotas:
    """The limits of the projects that call this process.

    Args:
        store: counts the usage of projects.
        defaults: the limits of projects that have none of their own.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        store: UsageStore,
        defaults: ProjectLimits = NO_LIMITS,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._tokens = Counter[UUID]()
        # The tokens that are being stored, with their count_id. An attempt may fail after it has
        # stored them, so all attempts use the same count_id.
        self._storing: tuple[UUID, Counter[UUID]] | None = None
        self._one_stores = asyncio.Lock()
        self._free_counts = asyncio.Semaphore(MAX_COUNTS)
        self._forgot_at = clock()
        self._defaults = NO_LIMITS.effective(defaults)
        self._clock = clock
        self._projects: dict[UUID, _Project] = {}

    def set_limits(self, project_id: UUID, own: ProjectLimits) -> None:
        """Apply the limits of a project, as they were just read.

        Args:
            project_id: the project.
            own: the limits that were set for it.
        """
        limits = self.effective(own)
        project = self._projects.get(project_id)
        if limits == NO_LIMITS:
            self._projects.pop(project_id, None)
        elif project is None:
            count = partial(self._count, project_id)
            usage = ProjectUsage(count, self._free_counts, self._clock)
            project = self._projects[project_id] = _Project(self._clock, usage)
            project.set_limits(limits)
        elif project.limits != limits:
            project.set_limits(limits)

    def effective(self, own: ProjectLimits) -> ProjectLimits:
        """Return the effective limits of a project, given the limits that were set for it."""
        return own.effective(self._defaults)

    def begin_call(self, project_id: UUID) -> None:
        """Count a call.

        Raises:
            Fault: RATE_LIMITED.
        """
        # Skip the lookup, because most servers have no limits, and each lookup hashes a UUID.
        if not self._projects or (project := self._projects.get(project_id)) is None:
            return
        project.used_at = self._clock()
        if project.calls:
            project.calls.take(1)

    def take_messages(self, project_id: UUID, count: int) -> None:
        """Count messages that a call is about to store.

        Raises:
            Fault: RATE_LIMITED.
        """
        if not self._projects:
            return
        project = self._projects.get(project_id)
        if project and project.messages:
            project.messages.take(count)

    async def reserve(
        self, project_id: UUID, *, unless: Unless | None = None, **amounts: int
    ) -> Reservation:
        """Reserve the amounts that a call is about to store.

        Args:
            project_id: the project.
            unless: called before a refusal. Returns whether the call stores nothing new, e.g.
                because it is a repetition. Such a call is not refused.
            amounts: the amounts to reserve, by the name of the limit.

        Returns:
            The reservation. The caller must end it, e.g. by `async with`.

        Raises:
            Fault: QUOTA_EXCEEDED.
        """
        project = self._projects.get(project_id)
        if project is None or not project.limits.has_usage:
            return NO_RESERVATION
        usage = project.usage
        await usage.ready()
        exceeded = project.exceeded(amounts)
        # Count again before a refusal, because sessions may just have been deleted.
        if exceeded and await usage.renew():
            exceeded = project.exceeded(amounts)
        if exceeded:
            if unless and await unless():
                return NO_RESERVATION
            metrics.LIMIT_REFUSALS.labels(exceeded.metadata["what"]).inc()
            raise exceeded
        return Reservation(usage, amounts)

    async def reserve_turn(self, project_id: UUID, prompt_bytes: int) -> Reservation:
        """Reserve a turn and its prompt. Its tokens are unknown, so they are not reserved.

        Raises:
            Fault: QUOTA_EXCEEDED.
        """
        (await self.reserve(project_id, model_tokens_per_day=1)).give_back()
        return await self.reserve(project_id, max_running_turns=1, max_bytes=prompt_bytes)

    def is_limited(self, project_id: UUID) -> bool:
        """Return whether a project has any limit."""
        return bool(self._projects) and project_id in self._projects

    def has_limit(self, project_id: UUID, name: str) -> bool:
        """Return whether a project has a limit."""
        project = self._projects.get(project_id)
        return project is not None and getattr(project.limits, name) is not None

    def add_tokens(self, project_id: UUID, count: int) -> None:
        """Count tokens that models have reported."""
        self._tokens[project_id] += count
        if project := self._projects.get(project_id):
            project.usage.add({"model_tokens_per_day": count})

    def on_event(self, event: Event) -> None:
        """Note an event, of any process, that reduces the usage of its project."""
        if event.type in _FREEING and (project := self._projects.get(event.project_id)):
            project.usage.note_freed()

    def end_turns(self, project_id: UUID, count: int) -> None:
        """Count turns that have ended."""
        if project := self._projects.get(project_id):
            project.usage.add({"max_running_turns": -count})

    async def _count(self, project_id: UUID) -> Usage:
        await self.flush_tokens()
        return await self._store.usage(project_id)

    async def flush_tokens(self) -> None:
        """Store the tokens that were counted since the last time."""
        async with self._one_stores:
            while self._storing or self._tokens:
                if self._storing is None:
                    self._storing = uuid4(), self._tokens
                    self._tokens = Counter()
                await self._store.add_tokens(*self._storing)
                self._storing = None

    def paced(
        self,
        project_id: UUID,
        pieces: AsyncIterator[Sequence[Piece]],
        size_of: Callable[[Sequence[Piece]], int],
        unless: Unless | None = None,
    ) -> AsyncIterator[Sequence[Piece]]:
        """Yield the pieces of an import, no faster than the project's rate.

        Args:
            project_id: the project.
            pieces: the messages.
            size_of: returns the size of a piece in bytes. With it, an import that exceeds a quota
                is refused before all pieces have arrived.
            unless: see `reserve`.
        """
        if project_id not in self._projects:
            return pieces
        return self._slow(project_id, pieces, size_of, unless)

    async def _slow(
        self,
        project_id: UUID,
        pieces: AsyncIterator[Sequence[Piece]],
        size_of: Callable[[Sequence[Piece]], int],
        unless: Unless | None,
    ) -> AsyncIterator[Sequence[Piece]]:
        size = 0
        async for piece in pieces:
            size += size_of(piece)
            (await self.reserve(project_id, unless=unless, max_bytes=size)).give_back()
            left = len(piece)
            # The limits may change meanwhile.
            while left and (project := self._projects.get(project_id)) and project.messages:
                project.used_at = self._clock()
                taken, wait_s = project.messages.bucket.take_slowly(left)
                project.messages.meter.add(taken)
                left -= taken
                if wait_s:
                    await asyncio.sleep(min(wait_s, 1.0))
            yield piece

    def rates(self, project_id: UUID) -> tuple[int, int]:
        """Return the calls and the messages of the last second; 0 where there is no limit."""
        project = self._projects.get(project_id)
        calls = project.calls.meter.rate() if project and project.calls else 0
        messages = project.messages.meter.rate() if project and project.messages else 0
        return calls, messages

    async def run(self) -> None:
        """Store the tokens of turns, and forget idle projects, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_S)
            try:
                await self.flush_tokens()
                if self._clock() - self._forgot_at > FORGET_S:
                    self._forgot_at = self._clock()
                    await self._store.forget_tokens()
            except (DatabaseUnavailable, PoolExhausted, Contention, StatementCanceled) as e:
                log.warning("token_count_retrying", error=str(e))
            self.forget_idle()

    async def close(self) -> None:
        """Store the counted tokens."""
        try:
            await self.flush_tokens()
        except (DatabaseUnavailable, PoolExhausted, Contention, StatementCanceled) as e:
            log.warning("tokens_not_counted", error=str(e))

    def forget_idle(self) -> None:
        """Forget the projects without calls for IDLE_S."""
        oldest = self._clock() - IDLE_S
        for project_id in [id_ for id_, one in self._projects.items() if one.used_at < oldest]:
            del self._projects[project_id]


def rate_limited(name: str, limit: int, used: int, wait_s: float) -> Fault:
    """Return the fault for a rate that is reached.

    Args:
        name: name of the limit.
        limit: value of the limit.
        used: the rate of the last second.
        wait_s: time after which to try again. Unit: seconds.
    """
    metrics.LIMIT_REFUSALS.labels(name).inc()
    what = name.removesuffix("_per_second")
    return Fault(
        "RATE_LIMITED",
        f"the project has reached its limit of {limit} {what} a second at this server; nothing was "
        "changed, try again later",
        metadata={"what": name, "limit": limit, "used": used},
        # Round up to the milliseconds of RetryInfo, so that a token is available then.
        retry_after_s=math.ceil(wait_s * 1000) / 1000,
    )


def quota_exceeded(name: str, limit: int, used: int) -> Fault:
    """Return the fault for a call that would exceed a limit.

    Args:
        name: name of the limit.
        limit: value of the limit.
        used: how much is used without the call.
    """
    retry_after_s = None
    if name == "max_running_turns":
        retry_after_s = TURN_RETRY_S
    elif name == "model_tokens_per_day":
        now = datetime.now(UTC)
        midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
        retry_after_s = (midnight - now).total_seconds()
    return Fault(
        "QUOTA_EXCEEDED",
        f"the project has {used} of at most {limit} {_UNITS[name]}, and the call needs more; "
        f"nothing was changed: {_ADVICE[name]}, or ask the operator for a higher limit",
        metadata={"what": name, "limit": limit, "used": used},
        retry_after_s=retry_after_s,
    )


_UNITS = {
    "max_sessions": "sessions",
    "max_bytes": "bytes of messages and assets",
    "max_running_turns": "running and queued turns",
    "model_tokens_per_day": "tokens of models today",
}
_ADVICE = {
    "max_sessions": "delete sessions",
    "max_bytes": "delete sessions",
    "max_running_turns": "wait for turns to end",
    "model_tokens_per_day": "wait until midnight UTC",
}
