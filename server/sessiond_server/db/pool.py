"""The connection pool, and the execution of statements on it.

Every process has one psycopg pool. Hot statements run on a pooled connection's own cursor, prepared
and with binary results. All other statements go through `Database.rows`. Constant statements are
psycopg texts with `%(name)s` placeholders. Statements that are assembled from parts are written
with SQLAlchemy Core and compiled here (docs/decisions/003-one-pool.md).
"""

import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.rows import DictRow, TupleRow, dict_row
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests
from sqlalchemy import ClauseElement
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from sessiond_server.core.disks import is_full
from sessiond_server.core.work import current_work
from sessiond_server.db import address
from sessiond_server.db.connections import (
    ConnectionPool,
    configure,
    has_session,
    is_usable,
)
from sessiond_server.db.cursors import TimedClientCursor, TimedCursor, is_outdated, writes_content
from sessiond_server.db.places import CallsRefused, Places
from sessiond_server.db.reachability import Reachability

# Minimum time between two renewals of all connections.
RENEWAL_PAUSE_S = 1.0

_Result = TypeVar("_Result")

log = structlog.get_logger(__name__)


class DatabaseUnavailable(Exception):
    """The database does not respond, or the connection broke. A change may have been committed."""


class DatabaseReadOnly(DatabaseUnavailable):
    """The database cannot be written to, as during a failover. Nothing was changed."""


class DatabaseFull(DatabaseUnavailable):
    """The disk of the database is full. Nothing was changed."""


class PoolExhausted(Exception):
    """No connection became free within the pool's timeout."""


class Contention(Exception):
    """The statement failed on a lock timeout, a deadlock, a serialization failure or an old plan.

    Nothing was changed; a retry may succeed.
    """


class LockTimeout(Contention):
    """A statement did not get a lock within the connection's lock_timeout. Nothing was changed."""


class StatementCanceled(Contention):
    """The database canceled a statement, e.g. after its statement_timeout. Nothing was changed."""


class Database:
    """A pool of autocommit connections to one database.

    Attributes:
        prepare: value of execute(prepare=...) for hot statements.
    """

    def __init__(
        self,
        url: str,
        *,
        size: int = 16,
        timeout_s: float = 5.0,
        lock_timeout_s: float = 0.5,
        has_session: bool | None = None,
        listen_url: str | None = None,
        directory: Path | None = None,
    ) -> None:
        """Create a closed pool.

        Args:
            url: URL of the database, which may name several hosts.
            size: maximum number of connections, at least 1.
            timeout_s: how long a caller waits for a connection. Unit: seconds.
            lock_timeout_s: how long a statement waits for a lock, except behind a pooler in
                transaction mode. Unit: seconds; 0 = without end.
            has_session: whether all transactions of a connection run in one database session.
                Behind a pooler in transaction mode they do not. None = detect it.
            listen_url: URL of the same database for the connection that listens; None = `url`.
            directory: where the embedded database keeps its data; None for another database.
        """
        self._directory = directory
        self._conninfo = address.conninfo(url)
        self._listen_conninfo = address.conninfo(listen_url) if listen_url else None
        self._needs_writable = address.needs_writable(url)
        self._has_session = has_session
        self._lock_timeout_s = lock_timeout_s
        self._is_pooler_known = False
        self._renewed_at = -math.inf
        self._compiled: dict[ClauseElement, bytes] = {}
        self._reachability = Reachability(self._conninfo, needs_writable=self._needs_writable)
        self._places = Places(size)
        self._pool = ConnectionPool(
            self._conninfo,
            min_size=min(2, size),
            max_size=size,
            timeout=timeout_s,
            # A longer queue would only turn a fast refusal into a slow one.
            max_waiting=size * 64,
            open=False,
            configure=self._configure,
            check=None,
            reconnect_timeout=30.0,
            name="sessiond",
            kwargs={
                "autocommit": True,
                "cursor_factory": TimedCursor,
                # Only hot statements are prepared, since only they request it.
                "prepare_threshold": 2**31,
                "application_name": "sessiond",
            },
        )
        self._dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]
        # True: psycopg prepares the statements that are executed with this value. It has no effect
        # behind a pooler in transaction mode, because prepare_threshold is None there.
        self.prepare: bool | None = True

    async def open(self) -> None:
        """Start to connect in the background.

        If the database is unavailable, requests fail, but the server still starts.
        """
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close all connections; those in use are closed when they are returned."""
        await self._pool.close()
        await self._reachability.close()

    def pool_stats(self) -> Mapping[str, int]:
        """Return the sizes and counts of psycopg_pool.AsyncConnectionPool.get_stats."""
        return Counter(self._pool.get_stats()) + Counter(self._places.stats())

    def refuse_waiting(self, kind: str) -> None:
        """Raise LockTimeout in all callers of one kind of work that wait for a place; see Places.

        A caller that has met a lock, such as one on a table, calls this, because the statements of
        the waiting callers would probably meet the lock too.
        """
        self._places.refuse(kind)

    async def connect_alone(self, application_name: str) -> AsyncConnection[TupleRow]:
        """Return an autocommit connection outside the pool.

        Raises:
            psycopg.OperationalError: if the database refuses the connection.
        """
        # Nothing is prepared: behind a pooler, each transaction may run on another connection.
        return await AsyncConnection.connect(
            self._conninfo,
            autocommit=True,
            prepare_threshold=None,
            application_name=application_name,
        )

    async def connect_to_listen(
        self, application_name: str
    ) -> tuple[AsyncConnection[TupleRow], bool]:
        """Return a connection on which to wait for notifications.

        Returns:
            The connection, and whether it can listen. It cannot behind a pooler in transaction
            mode.

        Raises:
            psycopg.OperationalError: if the database refuses the connection.
        """
        if self._listen_conninfo:
            try:
                connection = await AsyncConnection.connect(
                    self._listen_conninfo,
                    autocommit=True,
                    prepare_threshold=None,
                    application_name=application_name,
                )
            except psycopg.OperationalError as e:
                log.warning("listen_database_unavailable", error=str(e))
            else:
                return connection, await self._can_listen(connection, self._has_session or None)
        connection = await self.connect_alone(application_name)
        return connection, await self._can_listen(connection, self._has_session)

    async def _can_listen(self, connection: AsyncConnection[TupleRow], known: bool | None) -> bool:
        """Return whether a connection can listen, and close it if the check fails."""
        if known is not None:
            return known
        try:
            return await has_session(connection)
        except BaseException:
            await connection.close()
            raise

    async def _configure(self, connection: AsyncConnection[TupleRow]) -> None:
        is_session = await configure(
            connection,
            has_session=self._has_session,
            lock_timeout_s=self._lock_timeout_s,
            needs_writable=self._needs_writable,
        )
        if not is_session and not self._is_pooler_known:
            self._is_pooler_known = True
            log.info("pooler_found", prepares=False)

    async def renew(self, reason: str) -> None:
        """Replace all connections. Connections in use are replaced when they are returned.

        Whoever finds a read-only or broken connection calls this, because the other connections are
        probably no better. A call soon after another one does nothing.
        """
        if time.monotonic() - self._renewed_at < RENEWAL_PAUSE_S or self._pool.closed:
            return
        self._renewed_at = time.monotonic()
        log.warning("database_connections_renewed", reason=reason)
        await self._pool.drain()

    async def ping(self) -> None:
        """Make one round trip.

        Raises:
            DatabaseUnavailable: if the database does not respond.
            PoolExhausted: if no connection became free in time.
        """
        async with self.connection() as connection:
            await connection.execute("SELECT 1")

    def connection(self) -> "PooledConnection":
        """Return a context manager that lends an autocommit connection.

        Entering or leaving it raises:
            PoolExhausted: no connection became free in time.
            DatabaseUnavailable: the connection broke.
            Contention: a lock timeout, a deadlock, a serialization failure or a canceled statement.
        """
        return PooledConnection(self)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection[TupleRow]]:
        """Lend a connection in a transaction.

        The transaction is committed at the end of the block and rolled back on an exception.
        psycopg.Rollback rolls it back and is not propagated. Other exceptions are those of
        `connection`.
        """
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def rows(
        self,
        statement: str | ClauseElement,
        parameters: Mapping[str, Any] | None = None,
        *,
        on: AsyncConnection[TupleRow] | None = None,
    ) -> list[DictRow]:
        """Run a statement, and return its rows as dicts.

        Args:
            statement: a psycopg text with `%(name)s` placeholders, or a Core statement.
            parameters: the values; None if a Core statement contains its values. A Core statement
                with parameters must be a module-level constant, since its compiled text is cached.
            on: the connection to run on; None to borrow one from the pool.

        Returns:
            The rows; an empty list if the statement has no result.

        Raises:
            PoolExhausted, DatabaseUnavailable, Contention: as for `connection`, if `on` is None.
        """
        if on is None:
            try:
                async with self.connection() as connection:
                    return await self.rows(statement, parameters, on=connection)
            except DatabaseReadOnly:
                # Try once more: nothing was changed, and the pool has dropped its read-only
                # connections.
                async with self.connection() as connection:
                    return await self.rows(statement, parameters, on=connection)
        if isinstance(statement, str):
            text = statement.encode()
        elif parameters is None:
            # Core produces the text and psycopg adapts the values, so the caller must wrap JSON in
            # Jsonb.
            compiled, parameters = self.compiled(statement)
            text = compiled.encode()
        elif (known := self._compiled.get(statement)) is not None:
            text = known
        else:
            text = str(statement.compile(dialect=self._dialect)).encode()
            self._compiled[statement] = text
        # Results are text: the binary loaders of these connections are for the hot paths (see
        # db/connections.py).
        if writes_content(statement):
            # PostgreSQL logs the text of a statement that fails. The values are sent separately, so
            # that the log does not contain them.
            async with on.cursor(row_factory=dict_row) as cursor:
                await cursor.execute(text, parameters, prepare=False)
                return await cursor.fetchall() if cursor.description else []
        # A client cursor writes values into the text, so that the statement is planned for them.
        async with TimedClientCursor(on, row_factory=dict_row) as cursor:
            await cursor.execute(text, parameters)
            return await cursor.fetchall() if cursor.description else []

    def compiled(self, statement: ClauseElement) -> tuple[str, Mapping[str, Any]]:
        """Return the psycopg text of a Core statement, and the values that it contains."""
        compiled = statement.compile(dialect=self._dialect)
        return str(compiled), compiled.params

    def is_disk_full(self) -> bool:
        """Return whether the embedded database has no room for the next piece of its log."""
        return self._directory is not None and is_full(self._directory)


class PooledConnection:
    """Lends a connection from the pool for the duration of a block."""

    __slots__ = ("_connection", "_database", "_kind")

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kind = current_work()

    async def __aenter__(self) -> AsyncConnection[TupleRow]:
        database = self._database
        pool, places = database._pool, database._places
        left_s = pool.timeout
        if not places.take(self._kind):
            left_s = await self._borrow(places.wait(self._kind, left_s))
        try:
            if idle := pool.take():
                self._connection = idle
            else:
                self._connection = await self._borrow(self._get(left_s))
            return self._connection
        except BaseException:
            places.release(self._kind)
            raise

    async def _get(self, timeout_s: float) -> AsyncConnection[TupleRow]:
        pool = self._database._pool
        self._connection = await pool.getconn(timeout_s)
        # Skip connections that ended while they were idle, so that their next user gets no error.
        while not await self._usable():
            self._connection = await pool.getconn(timeout_s)
        return self._connection

    async def _borrow(self, step: Awaitable[_Result]) -> _Result:
        """Wait for one step of getting a connection. Raises the errors of `Database.connection`."""
        try:
            return await step
        except (PoolTimeout, TooManyRequests) as e:
            if await self._database._reachability.is_away():
                if self._database.is_disk_full():
                    raise DatabaseFull("the disk of the database is full") from e
                raise DatabaseUnavailable("no connection to the database") from e
            raise PoolExhausted("every database connection is busy") from e
        except PoolClosed as e:
            raise DatabaseUnavailable("the server is closing its database connections") from e
        except CallsRefused as e:
            raise LockTimeout("other calls of this kind met a lock") from e

    async def _usable(self) -> bool:
        """Return whether the connection is usable; if not, give it back to be replaced."""
        usable = False
        try:
            usable = await is_usable(self._connection)
            return usable
        finally:
            if not usable:
                await self._give_back(is_broken=True)

    async def _give_back(self, *, is_broken: bool) -> None:
        # The pool replaces a closed connection and rolls back an open transaction.
        if is_broken:
            await self._connection.close()
        await self._database._pool.give_back(self._connection)

    async def __aexit__(
        self, exc_type: object, exc: BaseException | None, traceback: object
    ) -> None:
        # A connection to a primary that became a standby works, but only for reads. A connection
        # with outdated statements would keep using them. Both are closed.
        is_read_only = isinstance(exc, psycopg.errors.ReadOnlySqlTransaction)
        try:
            await self._give_back(is_broken=is_read_only or is_outdated(exc))
        finally:
            self._database._places.release(self._kind)
        match exc:
            case None:
                return
            case psycopg.errors.LockNotAvailable():
                raise LockTimeout(str(exc)) from exc
            case _ if is_outdated(exc):
                raise Contention(str(exc)) from exc
            case psycopg.errors.DeadlockDetected() | psycopg.errors.SerializationFailure():
                raise Contention(str(exc)) from exc
            # QueryCanceled and DiskFull are OperationalErrors, but the connection is intact.
            case psycopg.errors.QueryCanceled():
                raise StatementCanceled(str(exc)) from exc
            case psycopg.errors.DiskFull():
                raise DatabaseFull(str(exc)) from exc
            case psycopg.errors.ReadOnlySqlTransaction():
                await self._database.renew(str(exc))
                raise DatabaseReadOnly("the database is read-only") from exc
            # Some errors that end a database session have other classes, e.g. the error of
            # transaction_timeout.
            case psycopg.Error() if self._connection.broken or isinstance(
                exc, psycopg.OperationalError | psycopg.InterfaceError
            ):
                if self._connection.broken:
                    await self._database.renew(str(exc))
                raise DatabaseUnavailable("the connection to the database broke") from exc


def columns_of(row_type: type[Any], alias: str = "") -> str:
    """Return the columns of a row's dataclass, for a SELECT list or RETURNING.

    Args:
        row_type: a dataclass whose fields are named after columns.
        alias: alias of the table; "" for none.
    """
    prefix = f"{alias}." if alias else ""
    return ", ".join(f"{prefix}{field.name}" for field in fields(row_type))
