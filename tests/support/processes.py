"""Servers as separate processes."""

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from .waiting import PATIENCE_S

# Below the range of ephemeral ports, so that no other process gets the port of a server while it is
# restarted.
PORTS = range(20_000, 30_000)


def free_port() -> int:
    """Return a free port, which stays free while the server that uses it is restarted."""
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


class ServerProcess:
    """`sessiond serve` on a free port of the loopback.

    Args:
        flags: more flags.
        environment: more variables.
        log: the file for stderr.
    """

    def __init__(self, flags: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        self.target = ""
        listen = () if "--listen" in flags else ("--listen", f"127.0.0.1:{free_port()}")
        if "SESSIOND_DATA_DIR" not in environment:
            # Not the default directory, because a server of this user keeps its files there.
            environment = {
                "SESSIOND_ASSET_STORE": str(log.with_suffix(".assets").absolute())
            } | dict(environment)
        self._stderr: IO[bytes] = log.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sessiond_server", "serve", *listen, *flags],
            env={k: v for k, v in os.environ.items() if not k.startswith("SESSIOND_")}
            | environment,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def wait_until_ready(self) -> None:
        """Read the line with the server's address."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("sessiond serves on "), (
            f"it did not start: {line!r}\n{self.log.read_text()}"
        )
        self.target = line.split()[3]

    def kill(self) -> None:
        """Kill the server, as a power cut would."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """Send SIGTERM, wait for the end, and return the exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def end(self) -> None:
        """End the server, if it still runs."""
        try:
            if self.process.poll() is None:
                self.terminate()
        except subprocess.TimeoutExpired:
            self.kill()
        finally:
            if self.process.stdout:
                self.process.stdout.close()
            self._stderr.close()
