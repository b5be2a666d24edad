"""`sessiond sessions delete`."""

import os
import pty
import subprocess
from collections.abc import Callable

import psycopg
import pytest

from sessiond import Client

from ...support.waiting import PATIENCE_S
from .running import COMMAND, Done, fill


def test_delete(client: Client, run: Callable[..., Done]) -> None:
    fill(client)
    assert run("delete", "other", "--dry-run").out == "would delete other\n"
    done = run("delete", "nobody", "other", "--json")
    assert (done.code, done.json) == (
        1,
        {"dry_run": False, "deleted": ["other"], "not_found": ["nobody"]},
    )
    assert "SESSION_NOT_FOUND" in done.err
    missing = run("delete", "nobody", "other", "--allow-missing", "--json")
    assert (missing.code, missing.err) == (0, "")
    assert missing.json["not_found"] == ["nobody", "other"]
    assert (
        run("delete", "--prefix", "chat-", "--dry-run").out
        == "would delete 2 sessions with 13 messages\n"
    )
    unasked = run("delete", "--user", "ada")
    assert unasked.code == 2
    assert "1 session with 12 messages" in unasked.err
    assert "--yes" in unasked.err
    assert len(client.list_sessions().to_list()) == 2
    assert run("delete", "--user", "ada", "--yes").out == "deleted 1 session with 12 messages\n"
    assert run("delete", "--user", "ada").out == "deleted 0 sessions with 0 messages\n"
    assert run("delete", "--all", "-y", "--json").json == {
        "dry_run": False,
        "session_count": 1,
        "message_count": 1,
        "locked_count": 0,
    }


def test_delete_names_locked_sessions(
    client: Client, run: Callable[..., Done], shared_database_url: str
) -> None:
    fill(client)
    with psycopg.connect(shared_database_url) as blocker:
        blocker.execute("SELECT FROM sessions WHERE session_id = 'chat-1' FOR UPDATE")
        done = run("delete", "--all", "--yes")
    assert done.code == 1
    assert "1 session locked by others, not deleted: chat-1; repeat the command" in done.err
    assert [info.session_id for info in client.list_sessions()] == ["chat-1"]


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("no", 3), ("", 3)])
def test_delete_asks_at_a_terminal(client: Client, answer: str, left: int) -> None:
    fill(client)
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            [*COMMAND, "delete", "--all"],
            stdin=theirs,
            stderr=theirs,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            shown = b""
            while b"[y/N]" not in shown:
                shown += os.read(ours, 1000)
            assert b"Delete 3 sessions with 13 messages" in shown
            os.write(ours, f"{answer}\n".encode())
            assert process.wait(PATIENCE_S) == (1 if left else 0)
    finally:
        os.close(ours)
        os.close(theirs)
    assert len(client.list_sessions().to_list()) == left
