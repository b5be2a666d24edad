"""Tests of Database: its statements, and the kinds of failures that it distinguishes."""

import asyncio
import select
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import psycopg
import pytest

from sessiond_server.db.pool import (
    Contention,
    Database,
    DatabaseUnavailable,
    PoolExhausted,
    StatementCanceled,
    columns_of,
)
from sessiond_server.rpc.errors import as_fault

from ..support.waiting import PATIENCE_S


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, size=2, timeout_s=PATIENCE_S)
    await database.open()
    yield database
    await database.close()


async def test_all_callers_wait_for_the_first_probe_of_an_outage() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        database = Database(f"postgresql://127.0.0.1:{port}/x")
        leaving, *others = (asyncio.create_task(database._reachability.is_away()) for _ in range(5))
        await asyncio.sleep(0)
        # A cancelled caller does not end the probe of the others.
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        silent.close()  # resets the connection of the probe
        assert await asyncio.gather(*others) == [True] * 4
        await database.close()


async def test_a_database_that_refuses_connections_is_unavailable() -> None:
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        port = refusing.getsockname()[1]
        database = Database(f"postgresql://127.0.0.1:{port}/x", size=1, timeout_s=0.05)
        await database.open()
        with pytest.raises(DatabaseUnavailable):
            await database.ping()
        await database.close()


async def test_a_transaction_that_the_database_has_ended_is_an_outage(database: Database) -> None:
    async def change() -> None:
        async with database.transaction() as connection:
            await connection.execute("SET idle_in_transaction_session_timeout = 1")
            await asyncio.to_thread(select.select, [connection.fileno()], [], [], 60)
            await connection.execute("SELECT 1")

    with pytest.raises(DatabaseUnavailable):
        await change()
    await database.ping()


async def test_a_busy_pool_is_no_outage(database_url: str) -> None:
    database = Database(database_url, size=2, timeout_s=0.05)
    await database.open()
    # Connecting may take longer than the timeout.
    await database._pool.wait()
    async with database.connection(), database.connection():
        with pytest.raises(PoolExhausted):
            await database.ping()
    await database.close()


async def run_into_statement_timeout(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute("SET LOCAL statement_timeout = '10ms'")
        await connection.execute("SELECT pg_sleep(60)")


async def test_a_statement_timeout_is_no_outage(database: Database) -> None:
    with pytest.raises(StatementCanceled) as canceled:
        await run_into_statement_timeout(database)
    fault = as_fault(canceled.value)
    assert fault is not None
    assert (fault.reason, "statement_timeout" in fault.message) == ("OVERLOADED", True)
    # Callers that retry after contention also retry after this error.
    assert isinstance(canceled.value, Contention)


async def test_a_text_takes_named_parameters_and_returns_dicts(database: Database) -> None:
    text = "SELECT %(number)s AS number, %(text)s::text AS text, '%%' AS percent"
    rows = await database.rows(text, {"number": 7, "text": "it's"})
    assert rows == [{"number": 7, "text": "it's", "percent": "%"}]
    async with database.transaction() as connection:
        await database.rows("CREATE TEMPORARY TABLE t (n int) ON COMMIT DROP", on=connection)
        assert await database.rows("INSERT INTO t VALUES (1)", on=connection) == []
        assert await database.rows("SELECT n FROM t", on=connection) == [{"n": 1}]


async def test_a_rollback_leaves_the_block_without_an_exception(database: Database) -> None:
    async with database.transaction() as connection:
        await database.rows("CREATE TABLE undone (n int)", on=connection)
        raise psycopg.Rollback
    assert await database.rows("SELECT to_regclass('undone') AS found") == [{"found": None}]


def test_columns_are_those_of_the_dataclass() -> None:
    @dataclass
    class Row:
        key: int
        name: str

    assert columns_of(Row) == "key, name"
    assert columns_of(Row, "s") == "s.key, s.name"
