"""The connection pool, and how statements run on it.

One psycopg pool a process. Hot statements run on a pooled connection's own cursor, binary and prepared; cold ones are written with
SQLAlchemy Core, compiled here and run on the same connections (docs/decisions/003-one-pool.md).
"""

import struct
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncClientCursor, AsyncConnection
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.rows import DictRow, TupleRow, dict_row
from psycopg.types.numeric import Int8BinaryLoader
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests
from sqlalchemy import ClauseElement
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg


class DatabaseUnavailable(Exception):
    """The database does not answer, or went away in the middle: whether a change happened is not known."""


class PoolExhausted(Exception):
    """Every connection is busy, and stayed so for the whole of the pool's timeout."""


class Contention(Exception):
    """The database gave up on a lock, a deadlock or a serialization failure; nothing happened, trying again may help."""


class Int8s(list[int]):
    """An array of bigint, as a parameter. psycopg dumps lists item by item, with a type that depends on the items; this is all at once."""


class _Int8sDumper(Dumper):
    """The binary form of an array of one dimension: https://github.com/postgres/postgres, array_recv in arrayfuncs.c."""

    format = Format.BINARY
    oid = 1016

    def dump(self, obj: Int8s) -> bytes:
        count = len(obj)
        if not count:
            return _NO_INT8S
        items = [8] * (2 * count)
        items[1::2] = obj
        return struct.pack(f">iiiii{'iq' * count}", 1, 0, _INT8_OID, count, 1, *items)


_INT8_OID = 20
_NO_INT8S = struct.pack(">iii", 0, 0, _INT8_OID)


class Database:
    """A pool of autocommit connections to one database.

    Args:
        url: libpq connection string or URI.
        size: connections at the most.
        timeout_s: how long a caller waits for a connection.
        prepared: False where a pooler in transaction mode stands between, which cannot keep prepared statements.
    """

    def __init__(
        self, url: str, *, size: int = 16, timeout_s: float = 5.0, prepared: bool = True
    ) -> None:
        self._url = url
        self._compiled: dict[ClauseElement, bytes] = {}
        self._probed_at = float("-inf")
        self._away = False
        self._pool = AsyncConnectionPool(
            url,
            min_size=min(2, size),
            max_size=size,
            timeout=timeout_s,
            # A queue longer than this only turns a fast refusal into a slow one.
            max_waiting=size * 64,
            open=False,
            configure=_configure_prepared if prepared else _configure,
            check=None,
            reconnect_timeout=30.0,
            name="sessiond",
            kwargs={
                "autocommit": True,
                # Only what asks for it is prepared: the hot statements.
                "prepare_threshold": 2**31 if prepared else None,
                "application_name": "sessiond",
                "connect_timeout": 10,
            },
        )
        self._dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]
        # psycopg prepares with its own cache; None leaves the choice to prepare_threshold, which is off without it.
        self.prepare: bool | None = True if prepared else None

    async def open(self) -> None:
        """Begin to connect. Does not wait: a database that is away makes calls fail, not the start."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close the connections; those in use when they come back."""
        await self._pool.close()

    async def connect_alone(self, application_name: str) -> AsyncConnection[TupleRow]:
        """A connection in autocommit mode besides the pool. Raises: psycopg.OperationalError."""
        return await AsyncConnection.connect(
            self._url, autocommit=True, application_name=application_name, connect_timeout=10
        )

    async def ping(self) -> None:
        """One round trip. Raises DatabaseUnavailable or PoolExhausted."""
        async with self.connection() as connection:
            await connection.execute("SELECT 1")

    def connection(self) -> "PooledConnection":
        """A connection in autocommit mode, given back at the end of the block: `async with database.connection() as connection`.

        Raises:
            PoolExhausted: none came free in time.
            DatabaseUnavailable: the connection broke.
            Contention: a lock timeout, a deadlock, a serialization failure.
        """
        return PooledConnection(self)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection[TupleRow]]:
        """As connection(), in one transaction: committed at the end, rolled back on an exception."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def rows(
        self,
        statement: ClauseElement,
        parameters: Mapping[str, Any] | None = None,
        *,
        on: AsyncConnection[TupleRow] | None = None,
    ) -> list[DictRow]:
        """Run a Core statement and answer its rows as dicts (none for a statement without RETURNING).

        Args:
            parameters: of a statement that is a constant of its module; it is then compiled once. None: its values are in it.
            on: the connection to run on. None: one of the pool's.
        """
        if on is None:
            async with self.connection() as connection:
                return await self.rows(statement, parameters, on=connection)
        if parameters is None:
            # Values go to psycopg as they are (JSON wrapped in Jsonb by the caller): Core writes the text, psycopg knows the types.
            compiled = statement.compile(dialect=self._dialect)
            text, parameters = str(compiled).encode(), compiled.params
        elif (known := self._compiled.get(statement)) is not None:
            text = known
        else:
            text = self._compiled[statement] = str(
                statement.compile(dialect=self._dialect)
            ).encode()
        # Values are written into the text, so that each is planned for what it is (see _configure_prepared). Results come as text: the
        # binary loaders of these connections are for the hot paths (see _configure).
        async with AsyncClientCursor(on, row_factory=dict_row) as cursor:
            await cursor.execute(text, parameters)
            return await cursor.fetchall() if cursor.description else []

    async def _is_away(self) -> bool:
        """Whether the database takes no connection at all, as against too few being free. Asks at most once a second."""
        if time.monotonic() - self._probed_at > 1.0:
            self._probed_at = time.monotonic()
            try:
                await (await AsyncConnection.connect(self._url, connect_timeout=2)).close()
                self._away = False
            except psycopg.OperationalError:
                self._away = True
        return self._away


class PooledConnection:
    """A connection of the pool for the length of a block. A class, and getconn/putconn: what the pool's own context manager does
    besides is for connections that are not in autocommit mode, and costs a tenth of an append.
    """

    __slots__ = ("_connection", "_database")

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __aenter__(self) -> AsyncConnection[TupleRow]:
        try:
            self._connection = await self._database._pool.getconn()
        except (PoolTimeout, TooManyRequests) as e:
            if await self._database._is_away():
                raise DatabaseUnavailable("no connection to the database") from e
            raise PoolExhausted("every database connection is busy") from e
        except PoolClosed as e:
            raise DatabaseUnavailable("the server is closing its database connections") from e
        return self._connection

    async def __aexit__(
        self, exc_type: object, exc: BaseException | None, traceback: object
    ) -> None:
        # The pool looks at the state of what it gets back: a broken connection is replaced, an open transaction rolled back.
        await self._database._pool.putconn(self._connection)
        match exc:
            case None:
                return
            case (
                psycopg.errors.LockNotAvailable()
                | psycopg.errors.DeadlockDetected()
                | psycopg.errors.SerializationFailure()
            ):
                raise Contention(str(exc)) from exc
            case (
                psycopg.OperationalError()
                | psycopg.InterfaceError()
                | psycopg.errors.ReadOnlySqlTransaction()
            ):
                raise DatabaseUnavailable("the connection to the database broke") from exc


async def _configure(connection: AsyncConnection[Any]) -> None:
    # A binary timestamptz is an int64 of microseconds since 2000-01-01. The hot paths put it on the wire as it is; making a
    # datetime of each, to take it apart again, costs more than all the rest of a row. Text results still come as datetimes.
    connection.adapters.register_loader("timestamptz", Int8BinaryLoader)
    connection.adapters.register_dumper(Int8s, _Int8sDumper)


async def _configure_prepared(connection: AsyncConnection[Any]) -> None:
    await _configure(connection)
    # PostgreSQL plans the first five executions of a prepared statement for their values, on each connection. The hot statements have one
    # good plan whatever the values are, and a batch of messages is half a megabyte to plan with.
    await connection.execute("SET plan_cache_mode = force_generic_plan")
