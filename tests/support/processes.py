"""Servers in processes of their own, as their users run them."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

READY_TIMEOUT_S = 120


class ServerProcess:
    """`sessiond serve` on a free port of the loopback.

    Args:
        flags: more flags; environment: more variables. log: the file that takes stderr.
    """

    def __init__(self, flags: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        self.target = ""
        listen = () if "--listen" in flags else ("--listen", "127.0.0.1:0")
        if "SESSIOND_DATA_DIR" not in environment:
            # Not where the machine's own server keeps its files.
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
        """Read the line that says where it serves."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("sessiond serves on "), (
            f"it did not start: {line!r}\n{self.log.read_text()}"
        )
        self.target = line.split()[3]

    def kill(self) -> None:
        """As a power cut would."""
        self.process.kill()
        self.process.wait()

    def terminate(self, timeout_s: float = 60) -> int:
        """SIGTERM, and wait for the end. Answers the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def end(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()
        if self.process.stdout:
            self.process.stdout.close()
        self._stderr.close()
