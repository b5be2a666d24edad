"""Connections: how they are configured, and how stale and read-only ones are recognised."""

import select
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8BinaryLoader
from psycopg_pool import AsyncConnectionPool
from psycopg_pool.base import AttemptWithBackoff

from sessiond_server.db.int8s import Int8s, Int8sDumper

# What the statements and psycopg rely on, whatever the defaults of the database and the role are.
_SESSION_SETTINGS = {
    "datestyle": "ISO, YMD",
    "timezone": "UTC",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "default_transaction_isolation": "read committed",
}
# On each connection, PostgreSQL plans the first five executions of a prepared statement for their
# particular values. The hot statements have one good plan for all values, and planning with the
# values of a batch means processing half a megabyte of messages.
_PREPARED_SETTINGS = _SESSION_SETTINGS | {"plan_cache_mode": "force_generic_plan"}

# Also "on" at a standby.
_READ_ONLY = "SELECT current_setting('transaction_read_only')"

LONGEST_RETRY_S = 1.0


class ConnectionPool(AsyncConnectionPool[AsyncConnection[TupleRow]]):
    """A pool that goes on trying to connect at least once a second.

    psycopg's own doubles the time between two attempts up to 16 seconds, which callers would wait
    after the database is back.
    """

    async def _add_connection(
        self, attempt: AttemptWithBackoff | None, growing: bool = False
    ) -> None:
        await super()._add_connection(
            attempt or _Attempt(timeout=self.reconnect_timeout), growing=growing
        )


class _Attempt(AttemptWithBackoff):
    INITIAL_DELAY = 0.1

    def update_delay(self, now: float) -> None:
        super().update_delay(now)
        self.delay = min(self.delay, LONGEST_RETRY_S)


async def configure(
    connection: AsyncConnection[Any], *, prepared: bool, lock_timeout_s: float
) -> None:
    """Configure a new connection of the pool.

    Args:
        connection: the connection.
        prepared: whether statements are prepared on it.
        lock_timeout_s: how long a statement waits for a lock. Unit: seconds; 0 = without end.
    """
    # A binary timestamptz is an int64 of microseconds since 2000-01-01. The hot paths put it on the
    # wire as it is; making a datetime of each, to take it apart again, would cost more than the
    # rest of the row. Text results still come as datetimes.
    connection.adapters.register_loader("timestamptz", Int8BinaryLoader)
    connection.adapters.register_dumper(Int8s, Int8sDumper)
    settings = _PREPARED_SETTINGS if prepared else _SESSION_SETTINGS
    settings = settings | {"lock_timeout": f"{round(lock_timeout_s * 1000)}ms"}
    calls = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())
    await connection.execute(f"SELECT {calls}".encode())


async def is_usable(connection: AsyncConnection[Any]) -> bool:
    """Return whether an idle connection is intact. It makes no round trip if nothing was received.

    A server that ends a connection says so and closes the socket, so that there is something to
    read. A server whose settings are reloaded also sends something.
    """
    try:
        poller = select.poll()
        poller.register(connection.pgconn.socket, select.POLLIN)
        if not poller.poll(0):
            return True
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
    row = await (await connection.execute(_READ_ONLY)).fetchone()
    if row and row[0] == "on":
        raise psycopg.errors.ReadOnlySqlTransaction(
            "the database is read-only: it is a standby, or default_transaction_read_only is on"
        )
