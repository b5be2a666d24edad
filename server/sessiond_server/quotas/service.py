"""Enforces the limits of projects. All of it happens in memory, as far as possible.

A project is known here while it has limits and calls arrive. For any other project each check is
one look-up in a dict.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar
from uuid import UUID

from sessiond_server.core.errors import Fault
from sessiond_server.quotas.limits import NO_LIMITS, ProjectLimits
from sessiond_server.quotas.rates import Meter, TokenBucket
from sessiond_server.telemetry import metrics

# A project without calls for this long is forgotten. It must be longer than keys are cached, since
# a project becomes known when one of its keys is looked up.
IDLE_S = 3600.0
SWEEP_S = 60.0

Piece = TypeVar("Piece")


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
        limits: the limits that hold.
        used_at: time of the last call.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.limits = NO_LIMITS
        self.used_at = clock()
        self.calls: _Rate | None = None
        self.messages: _Rate | None = None

    def set_limits(self, limits: ProjectLimits) -> None:
        self.limits = limits
        self.calls = self._rate(self.calls, "calls_per_second", limits.calls_per_second)
        self.messages = self._rate(self.messages, "messages_per_second", limits.messages_per_second)

    def _rate(self, rate: _Rate | None, name: str, limit: int | None) -> _Rate | None:
        if limit is None:
            return None
        return rate if rate and rate.limit == limit else _Rate(name, limit, self._clock)


class Quotas:
    """The limits of the projects that call this process.

    Args:
        defaults: the limits of projects that have none of their own.
        clock: returns the time in seconds.
    """

    def __init__(
        self, defaults: ProjectLimits, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
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
            project = self._projects[project_id] = _Project(self._clock)
            project.set_limits(limits)
        elif project.limits != limits:
            project.set_limits(limits)

    def effective(self, own: ProjectLimits) -> ProjectLimits:
        """Return the limits that hold for a project with these limits of its own."""
        return own.effective(self._defaults)

    def begin_call(self, project_id: UUID) -> None:
        """Count a call.

        Raises:
            Fault: RATE_LIMITED.
        """
        if (project := self._projects.get(project_id)) is None:
            return
        project.used_at = self._clock()
        if project.calls:
            project.calls.take(1)

    def take_messages(self, project_id: UUID, count: int) -> None:
        """Count messages that a call is about to store.

        Raises:
            Fault: RATE_LIMITED.
        """
        project = self._projects.get(project_id)
        if project and project.messages:
            project.messages.take(count)

    def paced(
        self, project_id: UUID, pieces: AsyncIterator[Sequence[Piece]]
    ) -> AsyncIterator[Sequence[Piece]]:
        """Return the pieces of an import, which are read no faster than the project may store."""
        if project_id not in self._projects:
            return pieces
        return self._slow(project_id, pieces)

    async def _slow(
        self, project_id: UUID, pieces: AsyncIterator[Sequence[Piece]]
    ) -> AsyncIterator[Sequence[Piece]]:
        async for piece in pieces:
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
        """Forget idle projects, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.forget_idle()

    def forget_idle(self) -> None:
        """Forget the projects without calls for IDLE_S."""
        oldest = self._clock() - IDLE_S
        for project_id in [id_ for id_, one in self._projects.items() if one.used_at < oldest]:
            del self._projects[project_id]


def rate_limited(name: str, limit: int, used: int, wait_s: float) -> Fault:
    """Return the fault for a rate that is reached.

    Args:
        name: name of the limit.
        limit: its value.
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
        # RetryInfo has milliseconds; a token must be there then.
        retry_after_s=math.ceil(wait_s * 1000) / 1000,
    )
