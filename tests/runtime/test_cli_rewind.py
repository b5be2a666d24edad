"""`sessiond sessions rewind`, and the output of `tail --follow` for a rewind."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from sessiond import Client

from ..support.processes import ServerProcess

COMMAND = [sys.executable, "-m", "sessiond_server", "sessions"]


def said(texts: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text} for text in texts]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)


def test_rewind_and_tail(
    start_server: Callable[..., ServerProcess], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_server(SESSIOND_DATABASE_URL=database_url)
    monkeypatch.setenv("SESSIOND_TARGET", server.target)
    with Client(server.target) as client:
        session = client.create_session("undo")
        session.store_messages(said("abcd"))
        assert run("rewind", "undo", "--drop-last", "1").stdout == (
            "removed 1 message; the session is at seq 3\n"
        )
        done = run("rewind", "undo", "--to-seq", "2", "--expected-last-seq", "3", "--json")
        assert json.loads(done.stdout) == {
            "session_id": "undo",
            "last_seq": 2,
            "epoch": 2,
            "removed_count": 1,
        }
        conflict = run("rewind", "undo", "--to-seq", "1", "--expected-epoch", "1")
        assert (conflict.returncode, "HISTORY_REWOUND" in conflict.stderr) == (1, True)
        session.store_message({"role": "user", "content": "e"}, message_id="e")
        session.store_message({"role": "user", "content": "f"})
        done = run("rewind", "undo", "--before-message-id", "e", "--expected-epoch", "2")
        assert done.stdout == "removed 2 messages; the session is at seq 2\n"
        session.bookmarks.create("start", seq=1)
        with subprocess.Popen(
            [*COMMAND, "tail", "undo", "-n", "1", "--follow", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert json.loads(process.stdout.readline())["seq"] == 2
            assert run("rewind", "undo", "--to-bookmark", "start", "--abort-turn").returncode == 0
            session.store_messages(said("x"))
            assert process.stderr.readline() == "The messages after seq 1 were removed.\n"
            assert json.loads(process.stdout.readline())["seq"] == 2
            process.kill()
        missing = run("rewind", "undo", "--to-seq", "9")
        assert (missing.returncode, "has no message 9" in missing.stderr) == (1, True)
        assert run("rewind", "undo").returncode == 2
