"""Runs sessiond's server as a process."""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

READY = re.compile(r"serves on (127\.0\.0\.1:\d+)")
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 40


class ServerError(Exception):
    """The server did not start. The text contains the end of its log."""


@dataclass(frozen=True, slots=True)
class Served:
    """A running server."""

    target: str
    """HOST:PORT."""
    pid: int
    """Id of its process."""


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def migrate(database_url: str) -> None:
    """Create the schema.

    Raises:
        ServerError: the migration failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "sessiond_server", "migrate"],
        env=os.environ | {"SESSIOND_DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ServerError(done.stderr or done.stdout)


@contextmanager
def serve(database_url: str, settings: Mapping[str, str]) -> Iterator[Served]:
    """Run a server on a free port until the block ends.

    Args:
        database_url: the database of the server.
        settings: SESSIOND_* variables other than the database's. Default: the server's defaults.

    Raises:
        ServerError: the server did not start.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SESSIOND_")}
    with tempfile.TemporaryDirectory(prefix="sessiond-bench-log-") as directory:
        log = Path(directory) / "log"
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "sessiond_server", "serve", "--listen", "127.0.0.1:0"],
                env=clean | {"SESSIOND_DATABASE_URL": database_url} | dict(settings),
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C stops the benchmark, which stops its servers
            )
        try:
            yield Served(_address(process, log), process.pid)
        finally:
            if process.poll() is not None:
                sys.stderr.write(
                    f"a server exited with status {process.returncode}:\n"
                    f"{log.read_text()[-2000:]}\n"
                )
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if ready := READY.search(log.read_text()):
            return ready[1]
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise ServerError(f"sessiond did not start:\n{log.read_text()[-2000:]}")
