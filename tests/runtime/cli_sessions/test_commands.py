"""`sessiond sessions` with a server in another process."""

import base64
import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sessiond import Client

from ...support.processes import ServerProcess
from ...support.waiting import PATIENCE_S
from .running import COMMAND, Done, fill


def test_list(client: Client, run: Callable[..., Done]) -> None:
    fill(client)
    shown = run("list")
    assert (shown.code, shown.err) == (0, "")
    head, *rows = shown.out.splitlines()
    assert head.split() == [
        "ID",
        "STATUS",
        "MESSAGES",
        "TOKENS",
        "ACTIVE",
        "USER",
        "MODEL",
        "SUMMARY",
    ]
    assert [row.split()[0] for row in rows] == ["other", "chat-2", "chat-1"]
    assert rows[2].index("active") == head.index("STATUS")

    def ids(*arguments: str) -> list[str]:
        return [info["session_id"] for info in run("list", "--json", *arguments).json_lines]

    assert ids() == ["other", "chat-2", "chat-1"]
    assert (
        ids("--user", "ada")
        == ids("--model", "gpt-5")
        == ids("--config-contains", '{"t": 1}')
        == ["chat-1"]
    )
    assert ids("--metadata-contains", '{"team": "ü"}') == ["chat-1"]
    assert ids("--status", "destroyed") == ["chat-2"]
    assert ids("--prefix", "chat-", "--order", "id_asc") == ["chat-1", "chat-2"]
    assert (
        ids("--created-from", "2020-01-01")
        == ids("--active-before", "2999-01-01T00:00:00Z")
        == ids("--limit", "0")
    )
    assert (
        ids("--created-before", "2020-01-01")
        == ids("--active-from", "2999-01-01T00:00:00+02:00")
        == []
    )
    assert ids("--limit", "2") == ["other", "chat-2"]
    short = run("list", "--limit", "2")
    assert len(short.out.splitlines()) == 3
    assert "more than 2 sessions" in short.err
    assert "No sessions found" in run("list", "--user", "eve").err


def test_show_one_branch(client: Client, run: Callable[..., Done]) -> None:
    session = client.create_session("tree")
    session.store_messages([{"role": "user", "content": text} for text in ("aa", "bb", "cc")])
    session.store_message({"role": "user", "content": "dd"}, parent_seq=1)
    for arguments, expected in (
        (("--messages", "--branch-of", "4"), ["aa", "dd"]),
        (("--messages", "--branch-of", "3"), ["aa", "bb", "cc"]),
        (("--messages", "2", "--branch-of", "3"), ["bb", "cc"]),
        (("--messages",), ["aa", "bb", "cc", "dd"]),
    ):
        lines = run("show", "tree", "--json", *arguments).out.splitlines()[1:]
        assert [json.loads(line)["content"] for line in lines] == expected
    assert "no message 5" in run("show", "tree", "--messages", "--branch-of", "5").err


def test_states_are_shown(client: Client, run: Callable[..., Done]) -> None:
    client.create_session("stateful", state={"step": 3})
    assert 'state        {"step": 3}' in run("show", "stateful").out
    assert run("show", "stateful", "--json").json["state"] == {"step": 3}
    [listed] = run("list", "--json", "--with-state").json_lines
    assert listed["state"] == {"step": 3}
    assert "stateful" in run("list", "--with-state").out
    assert run("list", "--json").json_lines[0]["state"] is None


def test_the_files_of_an_import_become_assets(
    client: Client, run: Callable[..., Done], tmp_path: Path
) -> None:
    url = f"data:image/png;base64,{base64.b64encode(bytes(300 * 1024)).decode()}"
    picture = {"type": "image_url", "image_url": {"url": url}}
    client.create_session("inline").store_message({"role": "user", "content": [picture]})
    run("export", "inline", "-o", str(tmp_path / "inline"))
    done = run("import", str(tmp_path / "inline"), "--session-id", "assets", "--extract-files")
    assert (done.code, done.out) == (0, "assets\n")
    assert "asset" not in run("export", "inline").kinds
    assert "asset" in run("export", "assets").kinds


def test_show(client: Client, run: Callable[..., Done]) -> None:
    fill(client)
    client.sessions.copy("chat-1", "copy", up_to_seq=4)
    shown = run("show", "chat-1").out
    for part in (
        "chat-1",
        "active",
        "ada",
        "gpt-5",
        "12",
        "look",
        "running",
        "messages 1, 2",
        "plan",
        "before the tools",
        "never",
    ):
        assert part in shown
    assert "\x1b" not in shown
    assert "a copy of chat-1 up to seq 4" in run("show", "copy").out
    assert "3,600 s after the last use" in run("show", "chat-2").out
    document = run("show", "chat-1", "--json").json
    assert (
        document["last_seq"],
        document["tasks"][0]["task_id"],
        document["bookmarks"][0]["seq"],
    ) == (12, "look", 3)
    assert "#12  user" in run("show", "chat-1", "--messages", "2").out
    first, *messages = run("show", "chat-1", "--json", "--messages").json_lines
    assert first["session_id"] == "chat-1"
    assert [message["seq"] for message in messages] == list(range(1, 13))
    assert [
        m["seq"] for m in run("show", "chat-1", "--json", "--messages", "2").json_lines[1:]
    ] == [11, 12]
    assert len(run("show", "other", "--json", "--messages").json_lines) == 1


def test_tail(client: Client, run: Callable[..., Done]) -> None:
    fill(client)
    assert [m["seq"] for m in run("tail", "chat-1", "--json").json_lines] == list(range(3, 13))
    shown = run("tail", "chat-1", "-n", "1").out
    assert shown.startswith("#12  user  20")
    assert "\n  message 12\n  second line" in shown
    assert "\x1b" not in shown
    assert "tool_calls" in run("tail", "chat-2").out
    assert run("tail", "other").out == ""
    assert run("tail", "chat-1", "-n", "0").out == ""


def test_tail_follows_until_it_is_interrupted(client: Client) -> None:
    fill(client)
    with subprocess.Popen(
        [*COMMAND, "tail", "chat-1", "-n", "1", "--follow", "--json"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["seq"] == 12
        client.sessions.store_messages("chat-1", [{"role": "user", "content": "new"}] * 2)
        assert [json.loads(process.stdout.readline())["seq"] for _ in range(2)] == [13, 14]
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
        assert process.stdout.read() == ""


def test_tail_shows_answers_while_they_are_written(client: Client) -> None:
    session = client.create_session("live", model="echo")
    session.store_message({"role": "user", "content": "begin"})
    options = {"echo_text": "one two three", "echo_delay_ms": 1500}
    with subprocess.Popen(
        [*COMMAND, "tail", "live", "-n", "1", "--follow", "--live"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        while "begin" not in process.stdout.readline():
            pass
        sent = session.send("hi", options=options)
        while (line := process.stdout.readline()) != "…  assistant\n":
            assert line
        # The model is still writing.
        assert session.get_turn(sent.turn_id).state == "running"
        assert process.stdout.readline() == "one two three\n"
        assert process.stdout.readline().startswith("#3  assistant  ")
        client.sessions.store_message("live", {"role": "user", "content": "more"})
        assert process.stdout.readline().startswith("#4  user  ")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0


def test_copy(client: Client, run: Callable[..., Done]) -> None:
    fill(client)
    new_id = run("copy", "chat-1").out.strip()
    assert client.sessions.get(new_id).last_seq == 12
    done = run(
        "copy",
        "chat-1",
        "--new-id",
        "c",
        "--up-to-bookmark",
        "plan",
        "--title",
        "T",
        "--metadata",
        "{}",
        "--idle-ttl",
        "60",
        "--json",
    )
    assert (done.json["old_session_id"], done.json["new_session_id"]) == ("chat-1", "c")
    info = client.sessions.get("c")
    assert (info.last_seq, info.title, info.user, info.metadata, info.config) == (
        3,
        "T",
        "ada",
        {},
        {"t": 1},
    )
    assert (
        run(
            "copy",
            "chat-1",
            "--new-id",
            "d",
            "--up-to-seq",
            "0",
            "--keep-task-links",
            "--never-expires",
        ).out
        == "d\n"
    )
    taken = run("copy", "chat-1", "--new-id", "c")
    assert (taken.code, taken.out) == (1, "")
    assert taken.err.startswith("sessiond sessions: SESSION_ALREADY_EXISTS: ")


def test_half_a_surrogate_is_exported(client: Client, run: Callable[..., Done]) -> None:
    session = client.create_session("half")
    session.store_message('{"role":"user","content":"ü \\ud83d"}')
    session.store_message('{"role":"user","content":"\\u2028"}')
    messages = client.sessions.export("half")["messages"]
    assert run("export", "half", "--format", "json").json["messages"] == messages
    assert run("export", "half").kinds == ["export", "message", "message", "end"]


def test_export_and_import(client: Client, run: Callable[..., Done], tmp_path: Path) -> None:
    fill(client)
    lines = run("export", "chat-1")
    assert lines.err == ""
    assert lines.kinds == ["export", "task", "bookmark", *["message"] * 12, "end"]
    assert run("export", "chat-1", "--format", "json").json == client.sessions.export("chat-1")
    asset = client.assets.upload(b"a picture")
    picture = {"type": "image_url", "image_url": {"url": asset.uri}}
    client.create_session("with").store_message({"role": "user", "content": [picture]})
    assert run("export", "with").kinds == ["export", "asset", "message", "end"]
    assert run("export", "with", "--no-assets").kinds == ["export", "message", "end"]
    assert len(run("export", "with", "--format", "json").json["assets"]) == 1
    assert run("export", "with", "--format", "json", "--no-assets").json["assets"] == []
    for flags, count in (((), 1), (("--no-assets",), 0)):
        run("export", "with", "-o", str(tmp_path / "with"), *flags)
        assert (
            json.loads((tmp_path / "with").read_text(encoding="utf-8").splitlines()[-1])["assets"]
            == count
        )
        assert run("import", str(tmp_path / "with"), "--session-id", f"with {count}").code == 0
    for form in ("jsonl", "json"):
        path = tmp_path / form
        assert "12 messages" in run("export", "chat-1", "-o", str(path), "--format", form).out
        assert run("import", str(path), "--session-id", form).out == f"{form}\n"
        assert (
            client.sessions.export(form)["messages"] == client.sessions.export("chat-1")["messages"]
        )
    assert (tmp_path / "jsonl").read_text(encoding="utf-8") == lines.out
    assert run("export", "chat-1", "-o", str(tmp_path / "x"), "--json").json["message_count"] == 12
    client.delete_session("chat-1")
    assert run("import", str(tmp_path / "jsonl"), "--json").json["session_id"] == "chat-1"
    piped = subprocess.run(
        [*COMMAND, "import", "-", "--session-id", "piped"],
        input=lines.out,
        capture_output=True,
        text=True,
        check=True,
    )
    assert piped.stdout == "piped\n"

    (tmp_path / "cut").write_text(
        "".join(lines.out.splitlines(keepends=True)[:-1]), encoding="utf-8"
    )
    cut = run("import", str(tmp_path / "cut"), "--session-id", "cut")
    assert (cut.code, cut.err.count("\n")) == (1, 1)
    assert "cut off after line 15" in cut.err
    closed = run("export", "chat-1", "-o", str(tmp_path / "none" / "x"))
    assert (closed.code, closed.err) == (
        1,
        f"sessiond sessions: {tmp_path / 'none' / 'x'}: No such file or directory\n",
    )
    gone = run("import", str(tmp_path / "nowhere"))
    assert (gone.code, gone.err) == (
        1,
        f"sessiond sessions: {tmp_path / 'nowhere'}: No such file or directory\n",
    )


def test_progress_is_shown_at_a_terminal_only(client: Client, tmp_path: Path) -> None:
    fill(client)
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm"}
    with subprocess.Popen(
        [*COMMAND, "export", "chat-1"], stderr=theirs, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read().count(b"\n") == 16
        assert process.wait(PATIENCE_S) == 0
    assert b"exporting" in os.read(ours, 10_000)
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "required: COMMAND"),
        (("fold",), "invalid choice"),
        (("list", "--lim", "3"), "unrecognized arguments"),
        (("list", "--limit", "-3"), "not a whole number of 0 or more"),
        (("list", "--created-from", "soon"), "'soon' is not an ISO 8601 time"),
        (("list", "--config-contains", "[1]"), "is not a JSON object"),
        (("copy", "x", "--metadata", "{"), "is not JSON"),
        (("copy", "x", "--idle-ttl", "-1"), "not a number of seconds above 0"),
        (("copy", "x", "--up-to-seq", "1", "--up-to-bookmark", "b"), "not allowed with"),
        (("delete",), "give either ids, a filter, or --all"),
        (("delete", "--all", "--allow-missing"), "--allow-missing: only with ids"),
        (("import", "x", "--from", "codex", "--extract-files"), "--extract-files: cannot be used"),
        (("delete", "x", "--user", "ada"), "give either ids, a filter, or --all"),
        (("list", "--target", "http://localhost:1"), "not a URL"),
        (("list", "--tls-ca", "/no/ca.pem"), "--tls-ca: cannot read /no/ca.pem"),
    ],
)
def test_wrong_usage_is_reported(
    run: Callable[..., Done], arguments: tuple[str, ...], says: str
) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert says in done.err
    assert "Traceback" not in done.err


def test_failures_are_reported_in_one_line(server: ServerProcess, run: Callable[..., Done]) -> None:
    for arguments in (
        ("show", "x"),
        ("tail", "x"),
        ("copy", "x"),
        ("export", "x"),
        ("export", "x", "--format", "json"),
    ):
        done = run(*arguments)
        assert (done.code, done.out) == (1, "")
        assert done.err == "sessiond sessions: SESSION_NOT_FOUND: there is no session 'x'\n"
    away = run("list", "--target", "127.0.0.1:1", "--timeout", "1")
    assert away.code == 1
    # On a slow machine, the time may be over during an attempt.
    assert "UNAVAILABLE: no answer from 127.0.0.1:1" in away.err
    assert away.err.count("\n") == 1


def test_a_closed_output_pipe_is_no_failure(client: Client) -> None:
    session = client.create_session("long")
    session.import_messages([{"role": "user", "content": "x" * 1000}] * 3000)
    for arguments in (
        ("export", "long"),
        ("show", "long", "--messages", "--json"),
        ("tail", "long", "-n", "3000"),
    ):
        with subprocess.Popen(
            [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(PATIENCE_S) == 0


def test_every_command_has_its_help(run: Callable[..., Done]) -> None:
    listed = run("--help")
    assert listed.code == 0
    for command in ("list", "show", "copy", "export", "import", "delete", "tail"):
        assert command in listed.out
        told = run(command, "--help")
        assert told.code == 0
        assert "--target" in told.out
        assert "--json" in told.out
