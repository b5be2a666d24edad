"""The data that a backup reads besides the dump, in the snapshot of the dump."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg
from psycopg import AsyncConnection, IsolationLevel
from psycopg.rows import TupleRow

from sessiond_server.integrity.store.checks import StoredAsset

_ASSETS = "SELECT project_id, sha256, object_key, size FROM assets ORDER BY object_key"
_EMPTY = "SELECT to_regclass('sessions') IS NULL AND to_regclass('alembic_version') IS NULL"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of a database.

    Attributes:
        name: PostgreSQL's name of the snapshot, for pg_dump.
        postgres_version: PostgreSQL's major version.
        revision: revision of the schema.
        assets: all assets.
    """

    name: str
    postgres_version: int
    revision: str
    assets: list[StoredAsset]


@asynccontextmanager
async def snapshot(url: str) -> AsyncIterator[Snapshot]:
    """Hold a snapshot of a database for the duration of the block.

    Raises:
        psycopg.Error: if the database cannot be read.
    """
    async with await AsyncConnection.connect(url, application_name="sessiond backup") as connection:
        await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        await connection.set_read_only(True)
        [name] = await _row(connection, "SELECT pg_export_snapshot()")
        [revision] = await _row(connection, "SELECT max(version_num) FROM alembic_version")
        found = await connection.execute(_ASSETS)
        yield Snapshot(
            name,
            connection.info.server_version // 10_000,
            revision,
            [StoredAsset(*row) for row in await found.fetchall()],
        )


async def server_version(url: str) -> int:
    """Return PostgreSQL's major version.

    Raises:
        psycopg.Error: if the database cannot be reached.
    """
    async with await AsyncConnection.connect(url) as connection:
        return connection.info.server_version // 10_000


def is_empty(url: str) -> bool:
    """Return whether a database has no schema of sessiond.

    Raises:
        psycopg.Error: if the database cannot be reached.
    """
    with psycopg.connect(url) as connection:
        row = connection.execute(_EMPTY).fetchone()
        return bool(row and row[0])


async def _row(connection: AsyncConnection[TupleRow], statement: str) -> TupleRow:
    row = await (await connection.execute(statement.encode())).fetchone()
    assert row is not None  # noqa: S101 - an aggregate or a function has one row
    return row
