"""Outages of databases: ended connections, and failovers that leave them read-only."""

import psycopg
from psycopg import sql


def terminate_all(database_url: str) -> None:
    """End all connections to the database, and wait until their processes are gone."""
    with _connected(database_url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def set_read_only(database_url: str, value: str) -> None:
    """Set, with "on" or "off", whether new connections to the database are read-only."""
    with _connected(database_url) as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}").format(
                sql.Identifier(connection.info.dbname), sql.Literal(value)
            )
        )


def _connected(database_url: str) -> psycopg.Connection:
    # This connection can write even if the database is read-only.
    return psycopg.connect(
        database_url, autocommit=True, options="-c default_transaction_read_only=off"
    )
