"""Connections: how they are configured, and how stale and read-only ones are recognised."""

import select
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg._preparing import PrepareManager
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8BinaryLoader
from psycopg_pool import AsyncConnectionPool
from psycopg_pool.base import AttemptWithBackoff

from sessiond_server.core.cancellation import run_to_completion
from sessiond_server.db.int8s import Int8s, Int8sDumper

# Settings that the statements and psycopg rely on. They override the defaults of the database and
# the role. PgBouncer keeps them for each of its clients.
_CLIENT_SETTINGS = {
    "datestyle": "ISO, YMD",
    "timezone": "UTC",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
}
# Settings for connections that keep one database session. Behind a pooler in transaction mode,
# they would also apply to the next client that gets the connection.
#
# On each connection, PostgreSQL plans the first five executions of a prepared statement for their
# particular values. This is not worth its time: the hot statements have one good plan for all
# values, and the values of a batch are half a megabyte of messages.
_SESSION_SETTINGS = {
    "default_transaction_isolation": "read committed",
    "plan_cache_mode": "force_generic_plan",
}

# The setting is also "on" at a standby.
_IS_READ_ONLY = "current_setting('transaction_read_only') = 'on'"
_READ_ONLY = "the database is read-only: it is a standby, or default_transaction_read_only is on"

_REMEDY = "ALTER ROLE ... SET default_transaction_isolation = 'read committed'"
LONGEST_RETRY_S = 1.0

log = structlog.get_logger(__name__)


class ConnectionPool(AsyncConnectionPool[AsyncConnection[TupleRow]]):
    """A pool that tries to connect at least once a second.

    psycopg's own pool doubles the time between two attempts up to 16 seconds. Callers would wait
    that long after the database is back.
    """

    async def _add_connection(
        self, attempt: AttemptWithBackoff | None, growing: bool = False
    ) -> None:
        await super()._add_connection(
            attempt or _Attempt(timeout=self.reconnect_timeout), growing=growing
        )

    def take(self) -> AsyncConnection[TupleRow] | None:
        """Take the idle connection that was used last; None if getconn() has to find one.

        The connection that was used last has prepared the usual statements, and its process has the
        tables in its caches. getconn() takes the one that has been idle for longest.
        """
        if not self._pool or self._closed or self._lock.locked():
            return None
        connection = self._pool.pop()
        if not is_silent(connection):
            # Put it first, so that getconn() returns it next. PooledConnection then checks it with
            # a round trip.
            self._pool.appendleft(connection)
            return None
        # Record the smallest number of idle connections: the pool closes those that were never
        # needed.
        self._nconns_min = min(self._nconns_min, len(self._pool))
        self._stats[self._REQUESTS_NUM] += 1
        connection._pool = self
        return connection

    async def give_back(self, connection: AsyncConnection[TupleRow]) -> None:
        """Return a connection to the pool, even if the caller is cancelled meanwhile.

        A cancelled putconn() loses the connection, and with it a place in the pool for good.
        """
        if (
            self._waiting
            or self._closed
            or self._pool_full_event
            or self._lock.locked()
            or connection.pgconn.transaction_status != TransactionStatus.IDLE
            or connection._created_at <= self._drained_at
            or connection._expire_at <= time.monotonic()
        ):
            await run_to_completion(self.putconn(connection))
            return
        # No caller waits for this connection, so there is nothing to await.
        connection._pool = None
        self._pool.append(connection)


class _KeptStatements(PrepareManager):
    """The statements that psycopg has prepared on a connection. They outlive a rollback.

    psycopg runs DEALLOCATE ALL after each rollback, since tables may have been dropped and
    recreated. No connection of the pool drops tables, and after DEALLOCATE ALL, each statement
    would have to be planned again.
    """

    def clear(self) -> bool:
        return False


class _Attempt(AttemptWithBackoff):
    INITIAL_DELAY = 0.1

    def update_delay(self, now: float) -> None:
        super().update_delay(now)
        self.delay = min(self.delay, LONGEST_RETRY_S)


async def configure(
    connection: AsyncConnection[Any],
    *,
    has_session: bool | None,
    lock_timeout_s: float,
    needs_writable: bool,
) -> bool:
    """Configure a new connection of the pool, with one round trip.

    Behind a pooler in transaction mode, such as PgBouncer, each transaction may run on another
    connection to PostgreSQL. Such a pooler makes up process ids for its clients. Such an id differs
    from that of the PostgreSQL process that serves the client.

    Args:
        connection: the connection.
        has_session: whether all transactions run in one database session; None = detect it.
        lock_timeout_s: how long a statement waits for a lock. Unit: seconds; 0 = without end.
        needs_writable: refuse a connection that cannot write.

    Returns:
        Whether all transactions run in one database session. If not, nothing is prepared.

    Raises:
        psycopg.errors.ReadOnlySqlTransaction: if a connection that must write cannot.
    """
    # A binary timestamptz is an int64 of microseconds since 2000-01-01. The hot paths send it
    # unchanged, because a conversion to datetime and back would take longer than the rest of the
    # row. Results in text format are still datetimes.
    connection.adapters.register_loader("timestamptz", Int8BinaryLoader)
    connection.adapters.register_dumper(Int8s, Int8sDumper)
    prepare_threshold = connection.prepare_threshold
    connection._prepared = _KeptStatements()
    connection.prepare_threshold = prepare_threshold
    known = {None: _is_own_process(connection), True: "true", False: "false"}[has_session]
    calls = [known, "current_setting('default_transaction_isolation')", _IS_READ_ONLY]
    calls += [_set(*setting) for setting in _CLIENT_SETTINGS.items()]
    settings = _SESSION_SETTINGS | {"lock_timeout": f"{round(lock_timeout_s * 1000)}ms"}
    calls += [f"CASE WHEN {known} THEN {_set(*setting)} END" for setting in settings.items()]
    cursor = await connection.execute(f"SELECT {', '.join(calls)}".encode())
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has a row
    is_session, isolation, is_read_only, *_ = row
    if is_read_only and needs_writable:
        raise psycopg.errors.ReadOnlySqlTransaction(_READ_ONLY)
    if not is_session:
        connection.prepare_threshold = None
        if isolation != "read committed":
            # The statements stay correct, and calls that conflict are refused and repeated.
            log.warning("isolation_not_read_committed", found=isolation, remedy=_REMEDY)
    return bool(is_session)


async def has_session(connection: AsyncConnection[Any]) -> bool:
    """Return whether all transactions of a connection run in one database session."""
    cursor = await connection.execute(f"SELECT {_is_own_process(connection)}".encode())
    row = await cursor.fetchone()
    return bool(row and row[0])


def _is_own_process(connection: AsyncConnection[Any]) -> str:
    return f"pg_backend_pid() = {connection.info.backend_pid}"


def _set(name: str, value: str) -> str:
    return f"set_config('{name}', '{value}', false)"


@asynccontextmanager
async def closing(
    connection: AsyncConnection[TupleRow],
) -> AsyncIterator[AsyncConnection[TupleRow]]:
    """Close an autocommit connection at the end of the block.

    psycopg's own context manager rolls back first, and may wait for the event loop to do so. If the
    task is cancelled again at that moment, the connection stays open.
    """
    try:
        yield connection
    finally:
        await connection.close()  # it never waits


def is_silent(connection: AsyncConnection[Any]) -> bool:
    """Return whether an idle connection has nothing to read. It is then intact.

    A server that ends a connection sends a message and closes the socket. A server whose settings
    are reloaded also sends something.
    """
    try:
        poller = select.poll()
        poller.register(connection.pgconn.socket, select.POLLIN)
        return not poller.poll(0)
    except psycopg.Error:
        return False


async def is_usable(connection: AsyncConnection[Any]) -> bool:
    """Return whether an idle connection is intact. For a silent one, this takes no round trip."""
    if is_silent(connection):
        return True
    try:
        await check_writable(connection)
    except psycopg.Error:
        return False
    return True


async def check_writable(connection: AsyncConnection[Any]) -> None:
    """Check with one round trip that the connection can write.

    Raises:
        psycopg.errors.ReadOnlySqlTransaction: if the database is read-only, e.g. a standby.
        psycopg.Error: if the connection is broken.
    """
    row = await (await connection.execute(f"SELECT {_IS_READ_ONLY}".encode())).fetchone()
    if row and row[0]:
        raise psycopg.errors.ReadOnlySqlTransaction(_READ_ONLY)
