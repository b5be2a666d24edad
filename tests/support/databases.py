"""Databases of tests in the shared cluster."""

import uuid
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy.engine import URL


def as_url(conninfo: str) -> str:
    """Convert a libpq connection string to a URL, the form that the settings accept."""
    parts = conninfo_to_dict(conninfo)
    host = str(parts.get("host", ""))
    query = {"host": host} if host.startswith("/") else {}
    if query and parts.get("port"):
        query["port"] = str(parts["port"])
    return URL.create(
        "postgresql",
        username=parts.get("user"),
        password=parts.get("password"),
        host=None if query else host or None,
        port=None if query else int(parts.get("port") or 5432),
        database=parts.get("dbname"),
        query=query,
    ).render_as_string(hide_password=False)


def url_of(postgres: str, name: str) -> str:
    """Return the URL of a database in the cluster."""
    return as_url(make_conninfo(postgres, dbname=name))


class Databases:
    """Creates databases for tests and drops them.

    A database is dropped only when a later one is made. Right after a test, the connections to its
    database are still ending, and DROP DATABASE would wait 100 ms for them.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._left: list[str] = []
        # CREATE DATABASE and DROP DATABASE wait for all processes of the cluster. If one hangs, the
        # timeout lets only the present test fail, and not all later ones.
        connection.execute("SET statement_timeout = '60s'")

    def create(self, template: str | None = None) -> str:
        """Return the name of a new database: empty, or a copy of the template."""
        self._end_connections()
        self.drop_left(but=2)
        name = f"sessiond_test_{uuid.uuid4().hex[:12]}"
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template:
            # Copying files takes a tenth of the time of writing 8 MB of WAL, because the cluster
            # does not sync.
            statement += sql.SQL(" TEMPLATE {} STRATEGY file_copy").format(sql.Identifier(template))
        self._run(statement)
        return name

    def leave(self, name: str) -> None:
        """Mark a database as no longer needed."""
        self._left.append(name)

    def drop_left(self, *, but: int = 0) -> None:
        """Drop the databases that no test needs, except for the newest `but` of them."""
        while len(self._left) > but:
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
            self._run(drop.format(sql.Identifier(self._left.pop(0))))

    def _end_connections(self) -> None:
        """End the connections to databases that no test needs.

        DROP DATABASE waits until each process of the cluster has noticed it. A process that writes
        a result does not notice it before its client has read the result. The client may be a
        cancelled task of this thread, and would read nothing while the thread waits here. Idle
        connections are ended too, because a statement may be on its way to them.
        """
        self._connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ANY(%s)",
            [self._left],
        )

    def _run(self, statement: sql.Composed) -> None:
        try:
            self._connection.execute(statement)
        except psycopg.errors.QueryCanceled as e:
            for row in self._connection.execute(
                "SELECT pid, datname, application_name, state, wait_event_type, wait_event, query"
                " FROM pg_stat_activity WHERE backend_type = 'client backend'"
            ):
                e.add_note(str(row))
            raise
