"""Counts that fail or wait for others do not keep the amounts outdated."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from uuid import UUID, uuid4

import pytest

from sessiond_server.core.errors import Fault
from sessiond_server.core.events import DELETED, Event
from sessiond_server.db.pool import DatabaseUnavailable
from sessiond_server.quotas.limits import ProjectLimits
from sessiond_server.quotas.service import MAX_COUNTS, Quotas
from sessiond_server.quotas.store import Usage

from .conftest import Clock

PROJECT = uuid4()


class CountedSessions:
    """Counts a number of sessions that tests set."""

    def __init__(self, clock: Clock) -> None:
        self.sessions = 1
        self.outage_s = 0.0
        self.begun = self.held = asyncio.Event()
        self.held.set()
        self._clock = clock

    async def usage(self, project_id: UUID) -> Usage:
        if self.outage_s:
            self._clock.now += self.outage_s
            raise DatabaseUnavailable("the database does not answer")
        sessions = self.sessions
        self.begun.set()
        await self.held.wait()
        return Usage(sessions, 0, 0, 0, 0)

    async def add_tokens(self, count_id: UUID, tokens: Mapping[UUID, int]) -> None:
        """Do nothing."""

    async def forget_tokens(self) -> None:
        """Do nothing."""


@pytest.fixture
def store(clock: Clock) -> CountedSessions:
    return CountedSessions(clock)


@pytest.fixture
def quotas(store: CountedSessions) -> Quotas:
    quotas = Quotas(store)
    quotas.set_limits(PROJECT, ProjectLimits(max_sessions=1))
    return quotas


async def test_after_an_outage_a_deleted_session_makes_room_at_once(
    quotas: Quotas, store: CountedSessions, clock: Clock
) -> None:
    with pytest.raises(Fault, match="1 of at most 1 sessions"):
        await quotas.reserve(PROJECT, max_sessions=1)
    clock.now += 1
    store.outage_s = 5.0
    with pytest.raises(DatabaseUnavailable):
        await quotas.reserve(PROJECT, max_sessions=1)
    store.outage_s, store.sessions = 0.0, 0
    clock.now += 1
    await quotas.reserve(PROJECT, max_sessions=1)


async def test_waiting_for_the_counts_of_other_projects_does_not_delay_the_next_count(
    quotas: Quotas, store: CountedSessions, clock: Clock
) -> None:
    for _ in range(MAX_COUNTS):
        await quotas._free_counts.acquire()
    first = asyncio.create_task(quotas.reserve(PROJECT, max_sessions=1))
    while not quotas._free_counts._waiters:
        await asyncio.sleep(0)
    clock.now += 5
    for _ in range(MAX_COUNTS):
        quotas._free_counts.release()
    with suppress(Fault):
        await first
    store.sessions = 0
    clock.now += 1
    await quotas.reserve(PROJECT, max_sessions=1)


async def test_a_count_that_began_before_a_deletion_is_made_again(
    quotas: Quotas, store: CountedSessions, clock: Clock
) -> None:
    with pytest.raises(Fault, match="1 of at most 1 sessions"):
        await quotas.reserve(PROJECT, max_sessions=1)
    clock.now += 1
    store.begun, store.held = asyncio.Event(), asyncio.Event()
    creation = asyncio.create_task(quotas.reserve(PROJECT, max_sessions=1))
    await store.begun.wait()
    store.sessions = 0
    quotas.on_event(Event(DELETED, PROJECT, "s", uuid4(), 0))
    store.held.set()
    await creation
