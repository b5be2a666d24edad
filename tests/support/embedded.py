"""The embedded PostgreSQL of a server process, observed and killed from outside."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil

from .waiting import until


def postmaster(data_dir: Path) -> int:
    """Return the pid of the PostgreSQL in a data directory.

    Raises:
        OSError: if none runs.
        ValueError: if its pid file is being written.
        IndexError: if its pid file is being written.
    """
    return int((data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill_postgres(data_dir: Path) -> int:
    """Kill the postmaster as the kernel does when memory runs out; return its pid."""
    pid = postmaster(data_dir)
    os.kill(pid, signal.SIGKILL)
    return pid


def has_another_postgres(data_dir: Path, dead: int) -> bool:
    """Return whether a new postmaster runs after the kill."""
    try:
        pid = postmaster(data_dir)
    except (OSError, ValueError, IndexError):
        return False
    return pid != dead and is_alive(pid)


def end_postgres(data_dir: Path) -> None:
    """End the PostgreSQL that outlived its server, if there is one."""
    with suppress(OSError, ValueError, IndexError, psutil.NoSuchProcess):
        pid = postmaster(data_dir)
        if is_alive(pid) and "postgres" in psutil.Process(pid).name():
            os.kill(pid, signal.SIGINT)
            until(lambda: not is_alive(pid), "an orphaned PostgreSQL ended")
