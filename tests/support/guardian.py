"""Ends the processes that a test session leaves running, even if the session is killed.

Every process that the tests start inherits a mark in its environment. The guardian waits for the
end of a pipe that only the tests hold, ends the processes with the mark, and removes directories.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import psutil

MARK = "TESTS_OF_SESSIOND"
GRACE_S = 10.0  # a process that ends by itself in this time does not count as left running
QUIT_S = 10.0


class Guardian:
    """Guards the processes that this process starts from now on.

    Args:
        grace_s: time for processes to end by themselves after the end of the tests, in seconds.
    """

    def __init__(self, grace_s: float = GRACE_S) -> None:
        mark = uuid.uuid4().hex
        self._process = subprocess.Popen(
            [sys.executable, __file__, mark, str(grace_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Neither Ctrl-C nor the guardian of an outer test session ends this one.
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name != MARK},
        )
        os.environ[MARK] = mark

    def remove_at_end(self, directory: Path) -> None:
        """Have a directory removed at the end, if it still exists."""
        assert self._process.stdin
        self._process.stdin.write(f"{directory}\n")
        self._process.stdin.flush()

    def finish(self) -> str:
        """End the processes that are left, and return their command lines."""
        return self._process.communicate()[0]


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _main(mark: str, grace_s: str) -> None:
    directories = sys.stdin.read().splitlines()  # until the tests are gone
    grace_end = time.monotonic() + float(grace_s)
    while (left := _marked(mark)) and time.monotonic() < grace_end:
        time.sleep(0.05)
    with suppress(psutil.Error, BrokenPipeError):
        sys.stdout.writelines(f"{process.pid} {process.cmdline()}\n" for process in left)
        sys.stdout.flush()
    quit_end = time.monotonic() + QUIT_S
    # Repeat until none is left, because a server that still runs may restart its PostgreSQL.
    while left := _marked(mark):
        for process in left:
            with suppress(psutil.Error):
                # SIGKILL would leave PostgreSQL's shared memory behind.
                is_quitting = process.name() == "postgres" and time.monotonic() < quit_end
                process.send_signal(signal.SIGQUIT if is_quitting else signal.SIGKILL)
        time.sleep(0.05)
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
