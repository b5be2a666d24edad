"""The embedded PostgreSQL of a server process, seen and killed from outside."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil

from .waiting import until


def postmaster(data_dir: Path) -> int:
    """The pid of its PostgreSQL. Raises: OSError, ValueError, IndexError where there is none."""
    return int((data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def is_alive(pid: int) -> bool:
    """Whether a process runs. One that has ended and that nobody has buried does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill_postgres(data_dir: Path) -> int:
    """kill -9 of the postmaster, as the kernel does it when memory runs out. Answers the pid that it had."""
    pid = postmaster(data_dir)
    os.kill(pid, signal.SIGKILL)
    return pid


def has_another_postgres(data_dir: Path, dead: int) -> bool:
    """Whether another postmaster runs than the one that was killed."""
    try:
        pid = postmaster(data_dir)
    except (OSError, ValueError, IndexError):
        return False
    return pid != dead and is_alive(pid)


def end_postgres(data_dir: Path) -> None:
    """End a PostgreSQL that outlived its server, if there is one."""
    with suppress(OSError, ValueError, IndexError):
        pid = postmaster(data_dir)
        if is_alive(pid) and "postgres" in psutil.Process(pid).name():
            os.kill(pid, signal.SIGINT)
            until(lambda: not is_alive(pid), "an orphaned PostgreSQL ended")
