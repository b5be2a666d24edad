"""sessiond's server, in a process of its own."""

import os
import re
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
    """The server did not start; the text holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs. target: HOST:PORT; pid: of its process."""

    target: str
    pid: int


def migrate(database_url: str) -> None:
    """Make the schema. Raises: ServerError."""
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
    """A server on a free port, ended with the block. Raises: ServerError.

    Args:
        settings: SESSIOND_* variables beside the database's; what they leave out has its default.
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
                start_new_session=True,  # Ctrl-C is for the benchmark, which ends its servers itself
            )
        try:
            yield Served(_address(process, log), process.pid)
        finally:
            if process.poll() is not None:
                sys.stderr.write(
                    f"a server ended by itself, with status {process.returncode}:\n{log.read_text()[-2000:]}\n"
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
    raise ServerError(f"sessiond does not serve:\n{log.read_text()[-2000:]}")
