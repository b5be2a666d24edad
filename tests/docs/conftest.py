"""Runs programs of other SDKs on sessiond, as a reader would type them in."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from sessiond import Client

from ..support.processes import ServerProcess

TIMEOUT_S = 240

Typed = Callable[..., list[list[str]]]


def with_imports_changed(program: str) -> str:
    """Return a program for Acontext's or Copilot's SDK with its imports changed to sessiond's."""
    return re.sub(r"^(\s*from )(acontext|copilot)\b", r"\1sessiond.compat.\2", program, flags=re.M)


@pytest.fixture
def start(start_server: Callable[..., ServerProcess], database_url: str) -> Callable[[], str]:
    """Start a server whose models all echo and whose sessions expire; return its target."""
    return lambda: (
        start_server(
            SESSIOND_DATABASE_URL=database_url,
            SESSIOND_ECHO_MODELS="true",
            SESSIOND_DEFAULT_IDLE_TTL_S="86400",
        ).target
    )


@pytest.fixture
def target(start: Callable[[], str]) -> str:
    return start()


@pytest.fixture
def client(target: str) -> Iterator[Client]:
    with Client(target) as opened:
        yield opened


@pytest.fixture
def typed(tmp_path: Path) -> Typed:
    """A function that runs programs in one interpreter, and returns each program's lines."""

    def run(target: str, *programs: str) -> list[list[str]]:
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("typist.py"))],
            input=json.dumps({"programs": [with_imports_changed(dedent(p)) for p in programs]}),
            env={
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("SESSIOND_", "ACONTEXT_"))
            }
            | {"SESSIOND_TARGET": target},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        # stderr would name coroutines that were never awaited, and failed handlers.
        assert done.stderr == ""
        printed: list[list[str]] = json.loads(done.stdout)["printed"]
        return printed

    return run
