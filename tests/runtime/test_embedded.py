"""The embedded PostgreSQL: settings, permissions, locks, and starts after shutdowns and kills."""

import asyncio
import fcntl
import os
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from sessiond_server.embedded import EmbeddedError, EmbeddedPostgres
from sessiond_server.embedded import cluster as embedded_module
from sessiond_server.embedded import postmaster as postmaster_module
from sessiond_server.embedded.postmaster import stop_postmaster

from ..support.embedded import (
    end_postgres,
    has_another_postgres,
    is_alive,
    kill_postgres,
    postmaster,
)
from ..support.waiting import PATIENCE_S, until, until_async

Make = Callable[..., EmbeddedPostgres]


@pytest.fixture
def make() -> Iterator[Make]:
    """Creates embedded PostgreSQLs and leaves none running."""
    made: list[tuple[EmbeddedPostgres, Path]] = []

    def new(data_dir: Path, **options: int) -> EmbeddedPostgres:
        made.append((EmbeddedPostgres(data_dir, **options), data_dir))
        return made[-1][0]

    yield new
    for postgres, data_dir in made:
        postgres.release()
        end_postgres(data_dir)


def ask(url: str, statement: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return next(iter(cursor.fetchone() or [None])) if cursor.description else None


def test_the_cluster_is_durable_and_private(data_dir: Path, make: Make) -> None:
    postgres = make(data_dir)
    assert not postgres.is_running
    url = postgres.start()
    assert postgres.is_running
    shown = {
        name: ask(url, f"SHOW {name}")
        for name in ("fsync", "full_page_writes", "synchronous_commit", "data_checksums")
    }
    assert set(shown.values()) == {"on"}
    assert ask(url, "SHOW server_encoding") == "UTF8"
    assert ask(url, "SHOW listen_addresses") == ""
    for directory in (data_dir / "postgres", postgres.socket_dir):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700

    ask(url, "CREATE TABLE kept AS SELECT 1 AS one")
    postgres.stop()
    assert not postgres.is_running
    assert ask(make(data_dir).start(), "SELECT one FROM kept") == 1


def test_the_cluster_is_stopped_without_starting_a_program(
    data_dir: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forked child of a process with gRPC's threads may die before exec."""
    postgres = make(data_dir)
    postgres.start()

    def no_program(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", no_program)
        postgres.stop()
    assert not postgres.is_running
    assert "database system is shut down" in (data_dir / "postgres" / "server.log").read_text()


def test_max_connections_follows_the_pool_sizes(data_dir: Path, make: Make) -> None:
    assert ask(make(data_dir, connections=300).start(), "SHOW max_connections") == "320"


@pytest.mark.parametrize("name", ["Application Support", "a'b %41+&?#", "deep/" * 30])
def test_a_data_directory_may_have_any_name(data_dir: Path, make: Make, name: str) -> None:
    postgres = make(data_dir / name)
    assert ask(postgres.start(), "SELECT 1") == 1
    postgres.stop()
    assert not postgres.is_running


@pytest.mark.parametrize("name", ["$(id)", "`id`", 'a"b', "a\\b"])
def test_names_with_shell_characters_are_refused(data_dir: Path, make: Make, name: str) -> None:
    with pytest.raises(EmbeddedError, match="in its name"):
        make(data_dir / name).start()
    assert not list(data_dir.iterdir())


def test_a_link_in_the_temporary_directory_is_not_followed(data_dir: Path, make: Make) -> None:
    """Any user can create such a link, and thus change the owner or mode of another directory."""
    other = data_dir / "other"
    other.mkdir(mode=0o755)
    before = other.stat()
    postgres = make(data_dir / ("deep/" * 30))
    postgres.socket_dir.symlink_to(other)
    try:
        with pytest.raises(EmbeddedError, match="is a link"):
            postgres.start()
    finally:
        postgres.socket_dir.unlink()
    after = other.stat()
    assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)
    assert ask(postgres.start(), "SELECT 1") == 1


def test_one_owner_at_a_time(data_dir: Path, make: Make) -> None:
    first, second = make(data_dir), make(data_dir)
    first.start()
    with pytest.raises(
        EmbeddedError, match=rf"another sessiond \(process {os.getpid()}\) uses the data directory"
    ):
        second.start()
    # The second instance takes over the PostgreSQL that the first instance leaves running.
    pid = postmaster(data_dir)
    first.release()
    second.start()
    assert postmaster(data_dir) == pid
    second.stop()
    assert not is_alive(pid)


LEAVING = """
trap 'rm "$1/postmaster.pid"; read _; exit' INT
echo ready
while :; do read _; done
"""


def test_a_stop_waits_for_the_process_after_its_pid_file_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["postgres", "-c", LEAVING, "-D", str(tmp_path)]
    with subprocess.Popen(
        command, executable="/bin/sh", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as leaving:
        assert leaving.stdin
        assert leaving.stdout
        assert leaving.stdout.readline() == "ready\n"
        pid_file = tmp_path / "postmaster.pid"
        pid_file.write_text(f"{leaving.pid}\n")

        sleeps = 0

        def sleep(seconds: float) -> None:
            nonlocal sleeps
            sleeps += not pid_file.exists()
            if sleeps == 2:  # The first one may have followed a look at the file.
                leaving.communicate("\n")

        monkeypatch.setattr(postmaster_module.time, "sleep", sleep)
        stopped = stop_postmaster(tmp_path, PATIENCE_S)
        assert (stopped, is_alive(leaving.pid)) == (True, False)
        leaving.kill()


def test_the_lock_ends_with_its_process(data_dir: Path, make: Make) -> None:
    """The lock's file remains, with a pid in it, but does not prevent a start."""
    (data_dir / "lock").write_text(str(os.getpid()))
    make(data_dir).start()
    with (data_dir / "lock").open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_an_interrupted_initdb_is_repeated(data_dir: Path, make: Make) -> None:
    unfinished = data_dir / "postgres.new"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    assert ask(make(data_dir).start(), "SELECT 1") == 1
    assert not unfinished.exists()


def test_other_files_are_not_overwritten(data_dir: Path, make: Make) -> None:
    letter = data_dir / "postgres" / "letter.txt"
    letter.parent.mkdir()
    letter.write_text("Dear Ada")
    with pytest.raises(EmbeddedError, match="not empty"):
        make(data_dir).start()
    assert letter.read_text() == "Dear Ada"


def test_another_major_version_is_refused(data_dir: Path, make: Make) -> None:
    cluster = data_dir / "postgres"
    cluster.mkdir()
    (cluster / "PG_VERSION").write_text("12\n")
    with pytest.raises(
        EmbeddedError, match=r"created by PostgreSQL 12, .* has PostgreSQL \d+: dump it"
    ):
        make(data_dir).start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_cluster_of_another_user_is_refused_with_the_remedy(data_dir: Path, make: Make) -> None:
    postgres = make(data_dir)
    postgres.start()
    postgres.stop()
    cluster = data_dir / "postgres"
    owner = cluster.stat().st_uid
    os.chown(cluster, 65534, -1)
    with pytest.raises(EmbeddedError, match=f"chown -R sessiond {cluster}"):
        make(data_dir).start()
    os.chown(cluster, owner, -1)
    make(data_dir).start()


def test_an_unusable_data_directory_is_reported(data_dir: Path, make: Make) -> None:
    (data_dir / "file").touch()
    with pytest.raises(EmbeddedError, match=r"cannot use the data directory .* --data-dir"):
        make(data_dir / "file").start()


def test_missing_binaries_are_reported_with_the_remedy(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_module, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedError, match="SESSIOND_DATABASE_URL"):
        EmbeddedPostgres(data_dir)


def test_it_starts_right_after_a_kill(data_dir: Path, make: Make) -> None:
    """Backend processes outlive the postmaster. PostgreSQL starts only when they have ended."""
    postgres = make(data_dir)
    url = postgres.start()
    ask(url, "CREATE TABLE kept AS SELECT 1 AS one")
    with psycopg.connect(url) as busy:
        busy.execute("SELECT 1")
        killed = kill_postgres(data_dir)
        postgres.release()
        assert ask(make(data_dir).start(), "SELECT one FROM kept") == 1
        with suppress(psycopg.OperationalError):
            busy.rollback()
    assert has_another_postgres(data_dir, killed)


def test_a_stale_pid_of_another_process_does_not_prevent_the_start(
    data_dir: Path, make: Make
) -> None:
    """A container's pids begin at 1 again, so postmaster.pid often names another process."""
    postgres = make(data_dir)
    ask(postgres.start(), "CREATE TABLE kept AS SELECT 1 AS one")
    killed = kill_postgres(data_dir)
    until(lambda: not is_alive(killed), "PostgreSQL ended")
    postgres.release()
    pid_file = data_dir / "postgres" / "postmaster.pid"
    owner = pid_file.stat()
    with subprocess.Popen(["sleep", "infinity"], user=owner.st_uid, group=owner.st_gid) as other:
        try:
            pid_file.write_text(pid_file.read_text().replace(str(killed), str(other.pid), 1))
            assert ask(make(data_dir).start(), "SELECT one FROM kept") == 1
            assert other.poll() is None
        finally:
            other.kill()


async def test_the_supervisor_restarts_a_dead_postgres(data_dir: Path, make: Make) -> None:
    postgres = make(data_dir)
    await asyncio.to_thread(postgres.start)
    supervisor = asyncio.create_task(postgres.supervise())
    try:
        for number in (signal.SIGKILL, signal.SIGQUIT):
            pid = postmaster(data_dir)
            os.kill(pid, number)
            await until_async(
                lambda pid=pid: has_another_postgres(data_dir, pid) and postgres.is_running,
                "another one ran",
            )  # type: ignore[misc]
    finally:
        supervisor.cancel()
        await asyncio.wait([supervisor])
    assert supervisor.cancelled()
    await asyncio.to_thread(postgres.stop)


async def test_the_supervisor_retries_failed_starts(
    data_dir: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failures of PostgreSQL and of the start of a process are treated as temporary."""
    postgres = make(data_dir)
    await asyncio.to_thread(postgres.start)
    failures = 0
    call = postgres._call

    def failing(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        nonlocal failures
        failures += 1
        if failures == 1:
            raise BlockingIOError("no process to be had")
        if failures == 2:
            raise EmbeddedError("it does not start")
        return call(*arguments, check=check)

    monkeypatch.setattr(postgres, "_call", failing)
    supervisor = asyncio.create_task(postgres.supervise())
    try:
        killed = kill_postgres(data_dir)
        await until_async(
            lambda: has_another_postgres(data_dir, killed) and postgres.is_running,
            "another one ran",
        )
        assert failures > 2
    finally:
        supervisor.cancel()
        await asyncio.wait([supervisor])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to hand the database to another user")
def test_as_root_parent_directories_become_traversable_only(data_dir: Path, make: Make) -> None:
    closed = data_dir / "closed"
    closed.mkdir(mode=0o700)
    ask(make(closed / "data").start(), "SELECT 1")
    assert stat.S_IMODE(closed.stat().st_mode) == 0o701
    assert closed.stat().st_uid == 0
    assert (closed / "data").stat().st_uid == 0
    assert (closed / "data" / "postgres").stat().st_uid != 0


def test_the_log_is_rotated_and_omits_statement_errors(data_dir: Path, make: Make) -> None:
    postgres = make(data_dir)
    url = postgres.start()
    log = data_dir / "postgres" / "server.log"
    with pytest.raises(psycopg.Error):
        ask(url, "SELECT no_such_column")
    # The sender of a statement receives its error, so the log does not contain it.
    assert "no_such_column" not in log.read_text()
    postgres.stop()
    os.truncate(log, embedded_module.MAX_LOG_BYTES + 1)
    make(data_dir).start()
    assert log.stat().st_size < 100_000
    assert log.with_suffix(".log.1").exists()
