"""Runs Alembic migrations in one transaction, under a lock, so that servers can start together.

The lock belongs to the transaction. A lock of a database session would stay on one of the
connections of a pooler in transaction mode.

Alembic is imported only if a migration is missing, because the import takes a tenth of the time of
a server's start.
"""

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import psycopg
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.pool import NullPool

from sessiond_server.db import address

if TYPE_CHECKING:
    from alembic.config import Config

# Key of the advisory lock. The number is arbitrary but must be the same in every server version.
LOCK = 0x5E5510D

# The revision of the previous release, whose servers also run on the newest schema. It is stored
# with the schema, where those servers look it up.
OLDEST_SERVER = "0009"

_REVISION = text("SELECT version_num FROM alembic_version")
_HAS_REVISION = text("SELECT to_regclass('alembic_version') IS NOT NULL")
_SET = text("SELECT set_config(:name, :value, true)")
_HOLDERS = text(
    "SELECT string_agg(pid::text, ', ') FROM pg_locks WHERE locktype = 'advisory' AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND classid = 0 AND objid = :lock"
)
_MARK = text(
    "INSERT INTO schema_support (is_only, oldest_server) VALUES (true, :oldest)"
    " ON CONFLICT (is_only) DO UPDATE SET oldest_server = excluded.oldest_server"
)


class MigrationRefused(Exception):
    """The schema cannot be migrated now; the text says why and what to do."""


def upgrade(database_url: str, *, lock_timeout_s: float = 5.0, wait_s: float = 300.0) -> None:
    """Run the missing migrations in one transaction; concurrent calls run one after the other.

    A schema that is newer, and fits servers of this version, is left as it is.

    Args:
        database_url: URL of the database, which may be that of a pooler.
        lock_timeout_s: how long a statement waits for a lock before it fails. While it waits, it
            blocks all later queries on the table. Unit: seconds.
        wait_s: how long to wait for another migration to end. Unit: seconds.

    Raises:
        MigrationRefused: if another migration does not end, or the schema is too new.
        sqlalchemy.exc.DBAPIError: if the database refuses a statement.
    """
    with _connect(database_url) as connection:
        _set(connection, "lock_timeout", f"{wait_s}s")
        try:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        except OperationalError as e:
            if not isinstance(e.orig, psycopg.errors.LockNotAvailable):
                raise
            connection.rollback()
            holders = connection.execute(_HOLDERS, {"lock": LOCK}).scalar()
            raise MigrationRefused(
                f"another migration did not end within {wait_s:g} seconds. Its lock is held by the "
                f"PostgreSQL process {holders or 'that just ended'}; if no migration is running, "
                f"end it with SELECT pg_terminate_backend({holders or 'PID'})"
            ) from None
        _set(connection, "lock_timeout", f"{lock_timeout_s}s")
        # Building an index of a large table may take longer than a role's timeout allows.
        _set(connection, "statement_timeout", "0")
        if _is_newer(connection):
            check_support(_revision(connection), _oldest_server(connection))
            return
        if _revision(connection) != newest():
            _run_missing(connection)
        connection.execute(_MARK, {"oldest": OLDEST_SERVER})
        connection.commit()


def current(database_url: str) -> str | None:
    """Return the revision of the database; None if the database is empty."""
    with _connect(database_url) as connection:
        return _revision(connection)


def newest() -> str:
    """Return the revision that this version of the server requires."""
    return max(_revisions())


def is_known(revision: str) -> bool:
    """Return whether this version knows a revision. Newer versions have further revisions."""
    return revision in _revisions()


def oldest_server(database_url: str) -> str | None:
    """Return the oldest revision whose servers run on the schema; None if that is not known."""
    with _connect(database_url) as connection:
        return _oldest_server(connection)


def check_support(revision: str | None, oldest: str | None) -> None:
    """Check that this version runs on the newer schema of a database.

    Args:
        revision: the revision of the database.
        oldest: the oldest revision whose servers run on the schema; None = unknown.

    Raises:
        MigrationRefused: if this version does not run on the schema.
    """
    if oldest is None or newest() < oldest:
        raise MigrationRefused(
            f"the database is at revision {revision}, which a newer version of sessiond made, and "
            f"this version only knows {newest()}: run that version again, or a newer one. "
            "Migrations only go forward; to go back, restore a backup that is older than the "
            "migration"
        )


def _run_missing(connection: Connection) -> None:
    from alembic import command

    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "sessiond_server.db:migrations")
    return config


@cache
def _revisions() -> frozenset[str]:
    """Return the revisions of all migrations, whose file names begin with them."""
    versions = files("sessiond_server.db").joinpath("migrations", "versions")
    names = (file.name for file in versions.iterdir())
    return frozenset(name[:4] for name in names if name[:4].isdecimal())


def _revision(connection: Connection) -> str | None:
    if not connection.execute(_HAS_REVISION).scalar_one():
        return None
    found = connection.execute(_REVISION).scalar()
    return None if found is None else str(found)


def _is_newer(connection: Connection) -> bool:
    revision = _revision(connection)
    return revision is not None and not is_known(revision)


def _oldest_server(connection: Connection) -> str | None:
    try:
        with connection.begin_nested():
            oldest = connection.execute(text("SELECT oldest_server FROM schema_support")).scalar()
    except ProgrammingError:
        return None
    return None if oldest is None else str(oldest)


def _set(connection: Connection, name: str, value: str) -> None:
    """Change a setting until the end of the transaction."""
    connection.execute(_SET, {"name": name, "value": value})


def _connect(database_url: str) -> Connection:
    # psycopg reads the URL, because SQLAlchemy does not know libpq's form with several hosts.
    # Nothing is prepared: behind a pooler, the next transaction may run on another connection.
    conninfo = address.conninfo(database_url)
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(
            conninfo, prepare_threshold=None, application_name="sessiond migrate"
        ),
        poolclass=NullPool,
    )
    return engine.connect()
