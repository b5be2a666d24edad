"""The databases of a run.

PostgreSQL is the server that SESSIOND_BENCH_DATABASE_URL names, or an embedded one in a temporary
directory.
"""

import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import structlog

from sessiond_server.embedded import EmbeddedPostgres

DATABASE_URL = "SESSIOND_BENCH_DATABASE_URL"
SHOWN_SETTINGS = (
    "server_version",
    "shared_buffers",
    "synchronous_commit",
    "fsync",
    "wal_compression",
    "max_wal_size",
)


@dataclass(frozen=True, slots=True)
class Databases:
    """Two databases on one server."""

    sessiond_url: str
    peers_url: str
    facts: dict[str, str]
    """The server's version, and its settings that affect the results."""

    def rows(self) -> int:
        """Return the number of rows in all tables of sessiond."""
        with psycopg.connect(self.sessiond_url, autocommit=True) as connection:
            tables = connection.execute(
                "SELECT relname FROM pg_class "
                "WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            ).fetchall()
            return sum(
                connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchall()[0][0]
                for (table,) in tables
            )

    def settle(self) -> None:
        """Vacuum, analyse and checkpoint, so that earlier writes do not slow a measurement."""
        for url in (self.sessiond_url, self.peers_url):
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("VACUUM ANALYZE")
                with suppress(psycopg.errors.InsufficientPrivilege):
                    connection.execute("CHECKPOINT")


@contextmanager
def databases() -> Iterator[Databases]:
    """Create two empty databases, and drop them at the end."""
    if given := os.environ.get(DATABASE_URL):
        with _two_databases(given, "") as made:
            yield made
        return
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    data_dir = Path(tempfile.mkdtemp(prefix="sessiond-bench-"))
    embedded = EmbeddedPostgres(data_dir)
    try:
        url = embedded.start()
        try:
            with _two_databases(url, " (embedded)") as made:
                yield made
        finally:
            embedded.stop()
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)


@contextmanager
def _two_databases(url: str, note: str) -> Iterator[Databases]:
    suffix = secrets.token_hex(4)
    ours, peers = f"sessiond_bench_{suffix}", f"sessiond_bench_peers_{suffix}"
    with psycopg.connect(url, autocommit=True) as connection:
        try:
            for name in (ours, peers):
                connection.execute(f'CREATE DATABASE "{name}"'.encode())
            facts = {name: _setting(connection, name) for name in SHOWN_SETTINGS}
            facts["server_version"] += note
            yield Databases(_with_database(url, ours), _with_database(url, peers), facts)
        finally:
            for name in (ours, peers):
                connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


def _setting(connection: psycopg.Connection[tuple[object, ...]], name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
    return str(row[0]) if row else "unknown"


def _with_database(url: str, name: str) -> str:
    parts = urlsplit(url)
    # urlunsplit would drop the empty host of a socket URL, and with it two slashes.
    return urlunsplit(parts._replace(path=f"/{name}", netloc=parts.netloc or "@"))
