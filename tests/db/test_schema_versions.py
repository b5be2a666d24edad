"""Schemas of newer versions, and migrations that cannot run: clear errors, and no hang."""

import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest

from sessiond_server.cli import migrate as migrate_command
from sessiond_server.cli.database import check_schema
from sessiond_server.cli.errors import CommandError
from sessiond_server.db import migrate

NEWER = "9999"

Query = Callable[..., list[tuple[object, ...]]]


@pytest.fixture
def newer(query: Query) -> str:
    """A database that a newer version has migrated. Returns the oldest compatible revision."""
    query("UPDATE alembic_version SET version_num = %s", [NEWER])
    [(oldest,)] = query("SELECT oldest_server FROM schema_support")
    return str(oldest)


def test_each_migration_says_which_servers_run_on_the_schema(newer: str) -> None:
    assert newer == migrate.OLDEST_SERVER
    assert migrate.is_known(newer)


@pytest.mark.usefixtures("newer")
def test_this_version_runs_on_a_newer_schema_that_fits(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check_schema(database_url)
    assert migrate_command.run(["--database-url", database_url]) == 0
    assert "9999: nothing to do" in capsys.readouterr().out
    assert migrate.current(database_url) == NEWER


@pytest.mark.parametrize("oldest", [NEWER, None])
@pytest.mark.usefixtures("newer")
def test_a_newer_schema_that_does_not_fit_is_refused_with_advice_that_works(
    database_url: str, query: Query, oldest: str | None
) -> None:
    if oldest is None:
        query("DROP TABLE schema_support")
    else:
        query("UPDATE schema_support SET oldest_server = %s", [oldest])
    for refused in (
        lambda: check_schema(database_url),
        lambda: migrate_command.run(["--database-url", database_url]),
    ):
        with pytest.raises(CommandError) as error:
            refused()
        assert "run that version again, or a newer one" in str(error.value)
        assert "sessiond migrate" not in str(error.value)


@pytest.fixture
def holder(database_url: str) -> Iterator[int]:
    """A connection that holds the lock of migrations, which an earlier version left behind."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [migrate.LOCK])
        yield connection.info.backend_pid


def test_a_lock_that_is_left_behind_is_named_with_its_holder(
    database_url: str, holder: int
) -> None:
    with pytest.raises(migrate.MigrationRefused, match=rf"pg_terminate_backend\({holder}\)"):
        migrate.upgrade(database_url, wait_s=0.05)


def test_a_migration_waits_for_the_one_that_runs(
    database_url: str, holder: int, query: Query
) -> None:
    waiting = threading.Thread(target=migrate.upgrade, args=[database_url])
    waiting.start()
    while not query("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
        pass
    query("SELECT pg_terminate_backend(%s)", [holder])
    waiting.join()
    assert migrate.current(database_url) == migrate.newest()


def test_a_migration_that_fails_leaves_no_trace(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "OLDEST_SERVER", None)  # violates a constraint at the end
    with pytest.raises(Exception, match="null value"):
        migrate.upgrade(empty_database_url)
    assert migrate.current(empty_database_url) is None
    with psycopg.connect(empty_database_url) as connection:
        tables = connection.execute("SELECT FROM pg_tables WHERE schemaname = 'public'")
        assert tables.rowcount == 0
