"""Tokens of models are counted once, whatever happens to the statements that store them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from sessiond_server.core.ids import DEFAULT_PROJECT_ID
from sessiond_server.db.pool import Database, DatabaseUnavailable
from sessiond_server.quotas.service import Quotas
from sessiond_server.quotas.store import QuotaStore

OTHER = uuid4()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, size=2)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def quotas(database: Database) -> Quotas:
    return Quotas(QuotaStore(database))


async def counted(database: Database) -> list[int]:
    """Return the stored tokens of both projects."""
    store = QuotaStore(database)
    return [(await store.usage(one)).model_tokens for one in (DEFAULT_PROJECT_ID, OTHER)]


async def test_a_lost_acknowledgement_counts_no_token_twice(
    quotas: Quotas, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Database.rows

    async def lost(self: Database, *args: Any, **options: Any) -> Any:
        await rows(self, *args, **options)
        raise DatabaseUnavailable("the connection broke after the commit")

    quotas.add_tokens(DEFAULT_PROJECT_ID, 5)
    monkeypatch.setattr(Database, "rows", lost)
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            await quotas.flush_tokens()
        # flush_tokens() first repeats the failed statement, which has no effect the second time.
        # The tokens that are added below are not part of that statement. The next one stores them.
        quotas.add_tokens(DEFAULT_PROJECT_ID, 10)
        quotas.add_tokens(OTHER, 1)
    monkeypatch.undo()
    await quotas.flush_tokens()
    assert await counted(database) == [25, 2]
    await quotas.flush_tokens()
    assert await counted(database) == [25, 2]


async def test_tokens_of_a_statement_that_failed_are_counted_later(
    quotas: Quotas, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(self: Database, *_: Any, **__: Any) -> Any:
        raise DatabaseUnavailable("the database is away")

    quotas.add_tokens(OTHER, 7)
    monkeypatch.setattr(Database, "rows", failing)
    with pytest.raises(DatabaseUnavailable):
        await quotas.flush_tokens()
    monkeypatch.undo()
    await quotas.flush_tokens()
    assert await counted(database) == [0, 7]


async def test_a_cancelled_caller_counts_no_token_twice(
    quotas: Quotas, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, stored = Database.rows, asyncio.Event()

    async def late(self: Database, *args: Any, **options: Any) -> Any:
        found = await rows(self, *args, **options)
        if not stored.is_set():
            stored.set()
            await asyncio.Event().wait()
        return found

    quotas.add_tokens(OTHER, 3)
    monkeypatch.setattr(Database, "rows", late)
    flushing = asyncio.create_task(quotas.flush_tokens())
    await stored.wait()
    flushing.cancel()
    await asyncio.wait([flushing])
    await asyncio.gather(*(quotas.flush_tokens() for _ in range(3)))
    assert await counted(database) == [0, 3]
