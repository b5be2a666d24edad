"""The reading processes, one for each subject."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

READ_TIMEOUT_S = 120


class Readers:
    """Reading processes by subject. A context manager, whose exit ends them.

    Args:
        addresses: for each subject's name, its kind (one of subjects.KINDS) and address.
    """

    def __init__(self, addresses: Mapping[str, tuple[str, str]]) -> None:
        self._addresses = addresses
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> "Readers":
        program = str(Path(__file__).with_name("reader.py"))
        with ExitStack() as stack:
            for name, address in self._addresses.items():
                command = [sys.executable, program, *address]
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
                )
                self._processes[name] = stack.enter_context(process)
                stack.callback(process.kill)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    async def read(self, name: str, level: str, session_id: str, times: int = 1) -> float:
        """Let a process read a session.

        Args:
            name: name of the subject.
            level: a method of Subject: "texts", "dicts" or "first".
            session_id: the session.
            times: how many times to read the session.

        Returns:
            The duration of all reads together, in seconds.
        """
        process = self._processes[name]
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps([level, session_id, times]) + "\n")
        async with asyncio.timeout(READ_TIMEOUT_S):
            answer = await asyncio.to_thread(process.stdout.readline)
        if not answer:
            raise RuntimeError(
                f"the reader of {name} ended by itself, with status {process.wait()}"
            )
        return float(answer)
