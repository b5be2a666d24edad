"""Output of texts with characters that the encoding of stdout does not have."""

import json
import os
import subprocess
import sys
from collections.abc import Callable

from sessiond import Client

from ...support.processes import ServerProcess

# A lone surrogate, a sequence for the terminal, and characters that Latin-1 does not have.
TEXT = "a \ud800 \x1b[31m … 😀 é"


def run(target: str, encoding: str, *arguments: str) -> str:
    """Return the output of a subcommand of `sessiond sessions`."""
    done = subprocess.run(
        [sys.executable, "-m", "sessiond_server", "sessions", *arguments, "--target", target],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode(encoding)


def test_messages_are_printed(
    start_server: Callable[..., ServerProcess], database_url: str
) -> None:
    target = start_server(SESSIOND_DATABASE_URL=database_url).target
    with Client(target) as client:
        session = client.create_session("odd", title="… 😀", state={"a": TEXT})
        session.store_message({"role": "user", "content": TEXT})
        stored = session.get_message(1).json
    shown = run(target, "utf-8", "tail", "odd")
    assert "a \ufffd \ufffd[31m … 😀 é" in shown
    assert json.loads(run(target, "utf-8", "tail", "odd", "--json"))["json"] == stored
    assert "… 😀" in run(target, "utf-8", "list")

    assert "[31m \\u2026 \\U0001f600 é" in run(target, "latin-1", "tail", "odd")
    assert json.loads(run(target, "latin-1", "tail", "odd", "--json"))["json"] == stored
    assert "\\u2026" in run(target, "latin-1", "list")
    exported = run(target, "latin-1", "export", "odd").encode("latin-1").decode()
    assert json.loads(exported.splitlines()[1])["json"] == stored
    assert json.loads(run(target, "latin-1", "show", "odd", "--json"))["title"] == "… 😀"
