"""Properties that a PostgreSQL reports, for checks before a server starts."""

from typing import NamedTuple

import psycopg

CONNECT_TIMEOUT_S = 10


class ClusterInfo(NamedTuple):
    """Properties of a PostgreSQL.

    Attributes:
        max_connections: the cluster's setting max_connections.
        is_standby: whether the cluster is a read-only standby.
    """

    max_connections: int
    is_standby: bool


def cluster_info(database_url: str) -> ClusterInfo:
    """Return the properties of a database's PostgreSQL.

    Args:
        database_url: URL of the database.

    Raises:
        psycopg.Error: if it cannot be reached within CONNECT_TIMEOUT_S seconds.
    """
    with psycopg.connect(database_url, connect_timeout=CONNECT_TIMEOUT_S) as connection:
        row = connection.execute(
            "SELECT current_setting('max_connections')::int, pg_is_in_recovery()"
        ).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    return ClusterInfo(*row)
