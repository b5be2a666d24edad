"""The process of a running PostgreSQL, which is found through its postmaster.pid."""

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import structlog

STOP_POLL_S = 0.02

log = structlog.get_logger(__name__)


def find_postmaster(cluster: Path) -> int | None:
    """Return the pid of the PostgreSQL that is running on the cluster; None if there is none."""
    try:
        pid = int((cluster / "postmaster.pid").read_text().splitlines()[0])
        # The file remains after a kill -9, and its pid may belong to another process by now.
        if not _runs_on(cluster, pid):
            return None
        os.kill(pid, 0)
    except PermissionError:
        return pid
    except (OSError, ValueError, IndexError):
        return None
    return pid


def stop_postmaster(cluster: Path, timeout_s: float) -> bool:
    """Stop the PostgreSQL that is running on the cluster, as `pg_ctl stop -m fast` does.

    PostgreSQL removes its pid file shortly before its process ends, so wait for the process, too.
    This function starts no program. A forked child of a process with gRPC's threads may die before
    exec, and PostgreSQL would be left running.

    Returns:
        Whether no PostgreSQL is running on the cluster; False if it has not ended in time.
    """
    end = time.monotonic() + timeout_s
    if (pid := find_postmaster(cluster)) is None:
        return True
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGINT)
    while find_postmaster(cluster) is not None or _is_running(cluster, pid):
        if time.monotonic() > end:
            return False
        time.sleep(STOP_POLL_S)
    return True


def _is_running(cluster: Path, pid: int) -> bool:
    """Return whether a process is running, and is PostgreSQL on the cluster."""
    try:
        os.kill(pid, 0)
        return _runs_on(cluster, pid)
    except PermissionError:
        return True
    except OSError:
        return False


def _runs_on(cluster: Path, pid: int) -> bool:
    """Return whether a process is PostgreSQL on the cluster; without /proc, always True."""
    if not Path("/proc/self/cmdline").exists():
        return True
    arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    if Path(os.fsdecode(arguments[0])).name != "postgres" or b"-D" not in arguments:
        return False
    # The server may have been started with another path to the same directory.
    return Path(os.fsdecode(arguments[arguments.index(b"-D") + 1])).samefile(cluster)


def disown_stale_pid(cluster: Path, socket_lock: Path) -> None:
    """Let PostgreSQL start although an unrelated process has the pid in postmaster.pid.

    PostgreSQL refuses to start if a process with that pid is running. In a container, a collision
    is likely, since pids start at 1 each time. PostgreSQL ignores the pid of its grandparent, so
    this function writes the pid of this process into the file. It does not remove the file,
    because PostgreSQL uses the other lines to find processes of the former server.

    Args:
        cluster: data directory of PostgreSQL.
        socket_lock: lock file of PostgreSQL's socket.
    """
    pid_file = cluster / "postmaster.pid"
    try:
        first, _, rest = pid_file.read_text().partition("\n")
    except FileNotFoundError:
        return
    if not first.strip().isdecimal() or find_postmaster(cluster) is not None:
        return
    with suppress(ProcessLookupError, PermissionError):
        os.kill(int(first), 0)
        log.warning("stale_postmaster_pid", pid=int(first))
        pid_file.write_text(f"{os.getpid()}\n{rest}")
        socket_lock.unlink(missing_ok=True)


async def wait_for_end(pid: int) -> None:
    """Wait until a process has ended; on Linux without polling."""
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
