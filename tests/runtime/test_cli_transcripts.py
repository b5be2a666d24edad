"""`sessiond sessions import --from`, with a server in another process."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sessiond import Client
from sessiond_server import cli

from ..support.processes import ServerProcess

FILES = Path(__file__).parents[1] / "imports" / "transcripts"
CODEX = "codex/019b7a3e-1c20-7d11-8f00-5d1f7c2b9a42"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def server(own_project: ServerProcess) -> ServerProcess:
    return own_project


@pytest.fixture
def run(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `sessiond sessions import`, and returns the exit code and what it printed."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        try:
            code = cli.run(["sessions", "import", *map(str, arguments)])
        except SystemExit as e:
            code = int(e.code or 0)
        return code, *capsys.readouterr()

    return run


def test_transcripts_come_in_and_a_repetition_says_that_they_are_there(run: Run) -> None:
    arguments = ("--from", "codex", "--user", "ann", "--model", "echo", FILES / "codex")
    assert run(*arguments) == (0, f"{CODEX}  12 new messages\n", "")
    assert run(*arguments) == (0, f"{CODEX}  0 new messages, 12 already stored\n", "")
    with Client() as client:
        info = client.sessions.get(CODEX)
        assert (info.user, info.model) == ("ann", "echo")


def test_transcripts_that_fail_are_listed_and_the_exit_code_says_so(
    run: Run, tmp_path: Path
) -> None:
    broken = tmp_path / "rollout-broken.jsonl"
    broken.write_text('{"payload": {}}\n{"half')
    code, out, err = run("--from", "codex", FILES / "codex", tmp_path, tmp_path / "none")
    assert (code, out) == (1, f"{CODEX}  12 new messages\n")
    lines = err.splitlines()
    assert lines[0].startswith(f"{broken}:2: is not JSON: Unterminated string")
    assert lines[1:] == [
        f"{tmp_path / 'none'}: No such file or directory",
        "1 transcript imported; 2 failed.",
    ]
    code, out, err = run("--json", "--from", "codex", "--keep-bad-lines", "--prefix", "x/", broken)
    [done] = json.loads(out)["imported"]
    assert (code, done["session_id"], done["added"]) == (0, "x/codex/rollout-broken", 2)
    assert [bad["line"] for bad in done["bad_lines"]] == [2]
    assert err.endswith("; kept as it is\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prefix", "a", "x.jsonl"], "--prefix: cannot be used without --from"),
        (
            ["--keep-bad-lines", "--user", "u", "x"],
            "--user, --keep-bad-lines: cannot be used without --from",
        ),
        (["a.jsonl", "b.jsonl"], "give one exported session, or --from for transcripts"),
        (["--from", "codex", "--session-id", "s", "x"], "--session-id: cannot be used with --from"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(
    run: Run, arguments: list[str], message: str
) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_the_messages_are_shown_as_text(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("--from", "codex", FILES / "codex")
    assert cli.run(["sessions", "tail", CODEX, "-n", "3"]) == 0
    assert "  All three tests pass.\n" in capsys.readouterr().out
