"""Statements of the hot paths: their values, and how long they stay prepared."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from sessiond_server.db.pool import Contention, Database, LockTimeout
from sessiond_server.db.prepared import (
    BYTEA,
    BYTEA_ARRAY,
    INT8,
    INT8_ARRAY,
    TEXT,
    TEXT_ARRAY,
    TIMESTAMPTZ,
    UUID_KEY,
    UUID_KEY_ARRAY,
    PreparedStatement,
    Type,
)

DOUBLED = PreparedStatement("tests.doubled", "SELECT %(n)s * 2", {"n": INT8}, (INT8,))
LISTED = "SELECT name FROM pg_prepared_statements WHERE name LIKE 'sessiond%'"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, size=1)
    await database.open()
    yield database
    await database.close()


async def prepared_names(connection: psycopg.AsyncConnection[Any]) -> list[str]:
    cursor = await connection.execute(LISTED)
    return [name for (name,) in await cursor.fetchall()]


async def until_active(connection: psycopg.AsyncConnection[Any], pid: int) -> None:
    """Wait until a process of PostgreSQL sleeps in a statement."""
    waits = "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = %s"
    while True:
        cursor = await connection.execute(waits, (pid,))
        if await cursor.fetchone() == (True,):
            return


KEYS = [uuid.UUID(int=2**127 + number) for number in (1, 2)]


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (INT8, -(2**63), str(-(2**63))),
        (INT8, None, None),
        (TEXT, "naïve 'quoted' %", "naïve 'quoted' %"),
        (TEXT, "", ""),
        (BYTEA, b"\0\xff", "\\x00ff"),
        (UUID_KEY, KEYS[0], str(KEYS[0])),
        (TIMESTAMPTZ, 1_500_000, "2000-01-01 00:00:01.5+00"),
        (INT8_ARRAY, [1, -2], "{1,-2}"),
        (INT8_ARRAY, [], "{}"),
        (TEXT_ARRAY, ["a,b", "", "é"], '{"a,b","",é}'),
        (TEXT_ARRAY, [], "{}"),
        (BYTEA_ARRAY, [b"\1", b""], '{"\\\\x01","\\\\x"}'),
        (UUID_KEY_ARRAY, KEYS, f"{{{KEYS[0]},{KEYS[1]}}}"),
    ],
)
async def test_values_arrive_as_they_were_given(
    database: Database, kind: Type, value: object, text: str | None
) -> None:
    is_array = isinstance(value, list)
    columns = (TEXT,) if is_array else (TEXT, kind)
    query = "SELECT %(value)s::text" + ("" if is_array else ", %(value)s")
    statement = PreparedStatement("tests.value", query, {"value": kind}, columns)
    async with database.connection() as connection:
        [row] = await statement.run(connection, {"value": value})
    assert row == ((text,) if is_array else (text, value))


async def test_a_statement_is_prepared_once_and_outlives_a_rollback(database: Database) -> None:
    async with database.transaction() as connection:
        assert await DOUBLED.run(connection, {"n": 1}) == [(2,)]
        [name] = await prepared_names(connection)
        await connection.execute("SELECT 1", prepare=True)
        raise psycopg.Rollback
    async with database.connection() as connection:
        assert await DOUBLED.run(connection, {"n": 2}) == [(4,)]
        assert await prepared_names(connection) == [name]


async def test_a_statement_that_was_deallocated_is_prepared_again(database: Database) -> None:
    async with database.connection() as connection:
        await DOUBLED.run(connection, {"n": 1})
        await connection.execute("DEALLOCATE ALL")
        assert await DOUBLED.run(connection, {"n": 2}) == [(4,)]


async def test_a_statement_whose_column_has_got_another_type_is_prepared_again(
    database: Database, database_url: str
) -> None:
    """PostgreSQL refuses the old statement: "cached plan must not change result type"."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other:
        await other.execute("CREATE TABLE changing (n text)")
        await other.execute("INSERT INTO changing VALUES ('7')")
        query = "SELECT n, n::text FROM changing WHERE %(n)s > 0"
        statement = PreparedStatement("tests.changing", query, {"n": INT8}, (BYTEA, TEXT))
        async with database.connection() as connection:
            assert await statement.run(connection, {"n": 1}) == [(b"7", "7")]
            await other.execute("ALTER TABLE changing ALTER n TYPE bigint USING n::bigint")
            assert await statement.run(connection, {"n": 1}) == [(bytes(7) + b"\7", "7")]


@pytest.mark.parametrize(
    "change",
    ["DEALLOCATE ALL", "ALTER TABLE outdated ALTER n TYPE bigint"],
)
async def test_a_connection_whose_cursors_have_outdated_statements_is_replaced(
    database: Database, change: str
) -> None:
    async def read() -> object:
        async with database.connection() as connection:
            cursor = await connection.execute("SELECT n FROM outdated", prepare=True)
            return await cursor.fetchone()

    await database.rows("CREATE TABLE outdated (n int)")
    assert await read() is None
    await database.rows(change)
    with pytest.raises(Contention):
        await read()
    assert await read() is None


async def test_a_statement_whose_caller_is_cancelled_as_it_is_prepared_is_prepared_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL has prepared the statement, but the cancelled caller does not know that."""
    async with database.connection() as connection:
        with monkeypatch.context() as patch:
            wait = connection.wait

            async def interrupted(*arguments: Any) -> None:
                await wait(*arguments)
                raise asyncio.CancelledError

            patch.setattr(connection, "wait", interrupted)
            with pytest.raises(asyncio.CancelledError):
                await DOUBLED.run(connection, {"n": 1})
        assert len(await prepared_names(connection)) == 1
        assert await DOUBLED.run(connection, {"n": 2}) == [(4,)]


async def test_nothing_is_prepared_on_a_connection_without_a_session(database_url: str) -> None:
    database = Database(database_url, size=1, has_session=False)
    await database.open()
    async with database.connection() as connection:
        assert await DOUBLED.run(connection, {"n": 1}) == [(2,)]
        assert await prepared_names(connection) == []
    await database.close()


async def test_a_statement_that_fails_raises_psycopgs_error(database: Database) -> None:
    division = PreparedStatement("tests.division", "SELECT 1 / %(n)s", {"n": INT8}, (INT8,))
    async with database.connection() as connection:
        with pytest.raises(psycopg.errors.DivisionByZero) as caught:
            await division.run(connection, {"n": 0})
        assert caught.value.diag.sqlstate == "22012"
        assert await division.run(connection, {"n": 1}) == [(1,)]


async def test_a_statement_that_waits_for_a_lock_for_too_long_is_a_lock_timeout(
    database: Database, database_url: str
) -> None:
    locking = PreparedStatement(
        "tests.locking", "SELECT 1 FROM pg_advisory_xact_lock(%(n)s)", {"n": INT8}, (INT8,)
    )
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("SELECT pg_advisory_xact_lock(7)")
        with pytest.raises(LockTimeout):
            async with database.connection() as connection:
                await locking.run(connection, {"n": 7})


async def test_a_statement_of_a_cancelled_caller_ends_and_its_connection_is_used_again(
    database: Database, database_url: str
) -> None:
    sleeping = PreparedStatement(
        "tests.sleeping", "SELECT 1 FROM pg_sleep(%(s)s)", {"s": INT8}, (INT8,)
    )

    async def sleep() -> None:
        async with database.connection() as connection:
            await sleeping.run(connection, {"s": 600})

    caller = asyncio.create_task(sleep())
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other:
        running = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        while not await (await other.execute(running)).fetchall():
            await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert not await (await other.execute(running)).fetchall()
    async with database.connection() as connection:
        assert await DOUBLED.run(connection, {"n": 3}) == [(6,)]


async def test_a_statement_whose_connection_is_terminated_raises_what_postgresql_says(
    database: Database, database_url: str
) -> None:
    sleeping = PreparedStatement("tests.sleeping", "SELECT 1 FROM pg_sleep(60)", {}, (INT8,))
    async with (
        database.connection() as connection,
        await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other,
    ):
        pid = connection.info.backend_pid
        running = asyncio.create_task(sleeping.run(connection, {}))
        await until_active(other, pid)
        await other.execute("SELECT pg_terminate_backend(%s)", (pid,))
        with pytest.raises(psycopg.errors.AdminShutdown):
            await running
        with pytest.raises(psycopg.OperationalError):
            await sleeping.run(connection, {})


async def test_values_that_do_not_fit_into_the_socket_arrive(database: Database) -> None:
    length = PreparedStatement(
        "tests.length", "SELECT length(%(value)s)::bigint", {"value": BYTEA}, (INT8,)
    )
    async with database.connection() as connection:
        for _ in range(2):
            assert await length.run(connection, {"value": bytes(32 * 2**20)}) == [(32 * 2**20,)]


async def test_the_connection_that_was_used_last_is_taken_first(database_url: str) -> None:
    database = Database(database_url, size=2)
    await database.open()
    async with database.connection() as first, database.connection() as second:
        pids = first.info.backend_pid, second.info.backend_pid
    assert pids[0] != pids[1]
    for _ in range(3):
        async with database.connection() as connection:
            assert connection.info.backend_pid == pids[0]
    await database.close()
