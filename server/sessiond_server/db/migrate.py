"""Runs Alembic migrations under an advisory lock, so that servers can start at the same time."""

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from sessiond_server.db import address

# Key of the advisory lock. The number is arbitrary but must be the same in every server version.
LOCK = 0x5E5510D


def upgrade(database_url: str, *, lock_timeout_s: float = 5.0) -> None:
    """Runs the missing migrations; concurrent calls run one after the other.

    Args:
        database_url: URL of the database.
        lock_timeout_s: how long a statement waits for a lock before it fails. While it waits, it
            blocks all later queries on the table. Unit: seconds.

    Raises:
        sqlalchemy.exc.DBAPIError: if the database refuses a statement.
    """
    with _connect(database_url) as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
        try:
            connection.execute(
                text("SELECT set_config('lock_timeout', :t, false)"), {"t": f"{lock_timeout_s}s"}
            )
            connection.commit()
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": LOCK})


def current(database_url: str) -> str | None:
    """Returns the revision of the database; None if the database is empty."""
    with _connect(database_url) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def newest() -> str:
    """Returns the revision that this version of the server requires."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None  # noqa: S101 - there is a first migration
    return head


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "sessiond_server.db:migrations")
    return config


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
