"""Failovers: callers meet as few ended or read-only connections as possible."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool

from sessiond_server.db import connections, migrate
from sessiond_server.db import pool as pool_module
from sessiond_server.db.pool import Database, DatabaseUnavailable
from sessiond_server.server import Running

from ..support.outages import set_read_only, terminate_all
from ..support.waiting import PATIENCE_S
from ..support.wire import Wire

SIZE = 4
WRITE = "INSERT INTO written VALUES (1)"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, size=SIZE, timeout_s=60)
    await database.open()
    await fill(database)
    await database.rows("CREATE TABLE written (n int)")
    yield database
    await database.close()


async def fill(database: Database) -> set[int]:
    """Borrow all connections at once, and return their processes."""
    async with AsyncExitStack() as stack:
        lent = [await stack.enter_async_context(database.connection()) for _ in range(SIZE)]
        return {one.info.backend_pid for one in lent}


async def make_read_only(database: Database) -> None:
    """Make all connections of the pool read-only, like those to a primary that was demoted."""
    async with AsyncExitStack() as stack:
        for _ in range(SIZE):
            lent = await stack.enter_async_context(database.connection())
            await lent.execute("SET default_transaction_read_only = on")


async def test_connections_that_ended_while_idle_cost_no_caller_an_error(
    database: Database, database_url: str
) -> None:
    before = await fill(database)
    terminate_all(database_url)
    assert await database.rows("SELECT 1 AS one") == [{"one": 1}]
    assert not before & await fill(database)


async def test_a_lone_caller_sees_nothing_of_connections_that_ended(
    wire: Wire, server: Running, database_url: str
) -> None:
    await wire.create("one")
    await asyncio.gather(*(wire.get("one") for _ in range(16)))
    terminate_all(database_url)
    await wire.store("one", "hello")
    assert await wire.texts("one") == ["hello"]


async def test_read_only_connections_are_replaced_after_the_first_refusal(
    database: Database,
) -> None:
    await make_read_only(database)
    with pytest.raises(DatabaseUnavailable, match="read-only"):
        async with database.connection() as connection:
            await connection.execute(WRITE.encode())
    for _ in range(2 * SIZE):
        async with database.connection() as connection:
            await connection.execute(WRITE.encode())


async def test_a_lone_statement_that_was_refused_is_repeated_on_a_new_connection(
    database: Database,
) -> None:
    await make_read_only(database)
    await database.rows(WRITE)
    assert await database.rows("SELECT n FROM written") == [{"n": 1}]


async def test_a_transaction_that_was_refused_is_rolled_back_and_its_connection_closed(
    database: Database,
) -> None:
    await make_read_only(database)
    used = []

    async def write() -> None:
        async with database.transaction() as connection:
            used.append(connection)
            await connection.execute(WRITE.encode())

    with pytest.raises(DatabaseUnavailable):
        await write()
    assert used[0].closed
    assert await database.rows("SELECT n FROM written") == []


async def test_a_database_that_is_read_only_gets_no_connections_until_it_is_writable(
    database_url: str,
) -> None:
    set_read_only(database_url, "on")
    database = Database(database_url, size=SIZE, timeout_s=0.2)
    await database.open()
    with pytest.raises(DatabaseUnavailable):
        await database.ping()
    set_read_only(database_url, "off")
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await database.ping()
            except DatabaseUnavailable:
                continue
            break
    await database.close()


async def test_connections_are_renewed_once_however_many_find_them_read_only(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "RENEWAL_PAUSE_S", 3600)
    drained = 0
    drain = AsyncConnectionPool.drain

    async def counted(pool: AsyncConnectionPool) -> None:
        nonlocal drained
        drained += 1
        await drain(pool)

    monkeypatch.setattr(AsyncConnectionPool, "drain", counted)
    await make_read_only(database)
    await asyncio.gather(*(database.rows(WRITE) for _ in range(SIZE)), return_exceptions=True)
    await fill(database)
    assert drained == 1


@pytest.mark.parametrize("form", ["postgresql://{user}@{gone}:1,{host}:{port}/{name}"])
async def test_of_several_hosts_the_one_that_answers_is_used(database_url: str, form: str) -> None:
    parts = conninfo_to_dict(database_url)
    url = form.format(
        user=parts.get("user", ""),
        gone="%2Fnowhere",
        host=str(parts["host"]).replace("/", "%2F"),
        port=parts.get("port", 5432),
        name=parts["dbname"],
    )
    if password := parts.get("password"):
        url += f"?password={password}"
    assert migrate.current(url) == migrate.newest()
    database = Database(url)
    await database.open()
    await database.ping()
    await database.close()


def test_the_pool_tries_again_at_least_once_a_second() -> None:
    attempt = connections._Attempt(timeout=30)
    delays = []
    now = 0.0
    while not attempt.time_to_give_up(now):
        attempt.update_delay(now)
        delays.append(attempt.delay)
        now += max(attempt.delay, 0.01)
    assert (max(delays), len(delays) > 30) == (connections.LONGEST_RETRY_S, True)
