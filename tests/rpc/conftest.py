"""Fixtures of the tests of calls."""

from collections.abc import Iterator, Sequence
from uuid import UUID

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from sessiond_server.sessions.store.row_locks import RowLockStore


@pytest.fixture
def found_locked(monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
    """Return the sessions that checks have found locked. Calls then wait for them in memory."""
    found: list[UUID] = []
    free = RowLockStore.free

    async def noted(self: RowLockStore, keys: Sequence[UUID]) -> set[UUID]:
        are_free = await free(self, keys)
        found.extend(key for key in keys if key not in are_free)
        return are_free

    monkeypatch.setattr(RowLockStore, "free", noted)
    return found


@pytest.fixture
def blocker(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection whose transaction locks what the test says; it is rolled back at the end."""
    with psycopg.connect(database_url) as connection:
        yield connection
        if connection.info.transaction_status != TransactionStatus.IDLE:
            connection.rollback()
