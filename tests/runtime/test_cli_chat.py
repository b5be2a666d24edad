"""`sessiond chat` as a process: with piped lines, at a terminal, and with a killed server."""

import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sessiond import Client
from sessiond_server.cli import chat

from ..support.processes import ServerProcess, free_port
from ..support.waiting import until

COMMAND = [sys.executable, "-m", "sessiond_server", "chat"]
TIMEOUT_S = 120
AGAIN_S = 10


@pytest.fixture
def server(own_project: ServerProcess) -> ServerProcess:
    return own_project


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.target) as opened:
        yield opened


def environment(target: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SESSIOND_")}
    key = os.environ.get("SESSIOND_API_KEY", "")
    return clean | {"SESSIOND_TARGET": target, "SESSIOND_API_KEY": key}


def talk(target: str, *arguments: str, lines: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command with all lines at once."""
    return subprocess.run(
        [*COMMAND, *arguments],
        input=lines,
        env=environment(target),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


class Talk:
    """A running command that receives one line at a time."""

    def __init__(self, target: str, session_id: str, notes: Path) -> None:
        self._notes = notes
        with notes.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*COMMAND, session_id],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment(target),
                text=True,
            )

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def heard(self) -> str:
        """Return the next line of its output."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def wait_for_note(self, text: str) -> None:
        until(lambda: text in self._notes.read_text(), f"it noted {text!r}")


@contextmanager
def talking(target: str, session_id: str, notes: Path) -> Iterator[Talk]:
    talk = Talk(target, session_id, notes)
    with talk.process as process:
        try:
            yield talk
        finally:
            process.kill()


class Terminal:
    """A terminal that runs the command."""

    def __init__(self, target: str, session_id: str) -> None:
        self._ours, theirs = pty.openpty()
        self.shown = ""
        # The command gets its own controlling terminal, so that Ctrl-C reaches no other process. It
        # handles SIGINT even if this process ignores SIGINT, as a background process does.
        inside = (
            "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
            f"os.login_tty(0); os.execv(sys.executable, {[*COMMAND, session_id]!r})"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", inside],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(target) | {"TERM": "dumb"},
        )
        os.close(theirs)

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def wait_for(self, text: str) -> None:
        """Wait until the output after the last wait contains a text."""
        while text not in self.shown:
            self.shown += os.read(self._ours, 1000).decode()
        self.shown = self.shown.partition(text)[2]

    def interrupt(self, text: str) -> None:
        """Press Ctrl-C until a text is shown.

        A Ctrl-C just before Python starts to wait for keys has no effect until the next Ctrl-C.
        """
        self.type("\x03")
        while text not in self.shown:
            if select.select([self._ours], [], [], AGAIN_S)[0]:
                self.shown += os.read(self._ours, 1000).decode()
            else:
                self.type("\x03")
        self.shown = self.shown.partition(text)[2]

    def close(self) -> None:
        os.close(self._ours)
        self.process.kill()
        self.process.wait()


def test_lines_are_prompts(server: ServerProcess, client: Client) -> None:
    done = talk(
        server.target,
        "chat-1",
        "--model",
        "echo-small",
        lines="Hello\n\n//usr is a path\n/help\n/nothing\n/quit\nnot sent\n",
    )
    assert done.returncode == 0, done.stderr
    answers, help_text = done.stdout.split("/history", 1)
    assert answers == "echo of 1 message: Hello\necho of 3 messages: /usr is a path\n"
    assert "Ctrl-C" in help_text
    assert done.stderr == "unknown command '/nothing'; /help lists the commands, //... sends it\n"
    assert client.sessions.get("chat-1").model == "echo-small"
    assert client.sessions.get("chat-1").message_count == 4


def test_a_session_is_continued(server: ServerProcess, client: Client) -> None:
    session = client.create_session("chat-1")
    session.store_messages(
        [{"role": "user", "content": f"message {i}\x1b[2J"} for i in range(1, 4)]
    )
    session.destroy()
    done = talk(server.target, "chat-1", "--history", "2", lines="Hello\n/history 1\n")
    lines = done.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines if line.startswith("#")] == ["#2", "#3", "#5"]
    assert "  message 2\ufffd[2J" in lines
    assert "echo of 4 messages: Hello" in lines
    again = talk(server.target, "chat-1", "--history", "0")
    assert (again.stdout, again.stderr, again.returncode) == ("", "", 0)
    refused = talk(server.target, "chat-1", "--new")
    assert refused.returncode == 1
    assert "SESSION_ALREADY_EXISTS" in refused.stderr


def test_a_failed_turn_is_reported_and_the_next_prompt_sent(
    server: ServerProcess, client: Client, tmp_path: Path
) -> None:
    session = client.create_session(
        "chat-1",
        config={"model_options": {"echo_fault": "MODEL_UNAVAILABLE", "echo_fault_after": 2}},
    )
    with talking(server.target, "chat-1", tmp_path / "notes") as failing:
        failing.say("Hello")
        assert failing.heard() == "echo of "
        failing.wait_for_note("the turn failed: MODEL_UNAVAILABLE")
        session.update(config={})
        failing.say("Hello again")
        assert failing.heard() == "echo of 3 messages: Hello again"
        failing.say("/quit")
        assert failing.process.wait(TIMEOUT_S) == 1
    unknown = talk(server.target, "chat-1", "--model", "nobody-has-this", lines="Hello\n")
    assert unknown.returncode == 1
    assert "MODEL_NOT_CONFIGURED" in unknown.stderr


def test_options_and_the_timeout_apply_to_each_answer(server: ServerProcess) -> None:
    said = talk(
        *(server.target, "chat-1", "--model", "echo-small", "--options", '{"echo_text": "yes"}'),
        lines="Hello\nand again\n",
    )
    assert (said.returncode, said.stdout) == (0, "yes\nyes\n")
    slow = '{"echo_text": "one two", "echo_delay_ms": 60000}'
    late = talk(
        *(server.target, "chat-1", "--history", "0", "--turn-timeout", "1", "--options", slow),
        lines="Hello\n",
    )
    assert late.returncode == 1
    assert "TURN_TIMED_OUT" in late.stderr
    assert "is not a JSON object" in talk(server.target, "chat-1", "--options", "[]").stderr


def test_wrong_usage(server: ServerProcess) -> None:
    assert talk("127.0.0.1:1").returncode == 2
    assert "not a URL" in talk("http://localhost:1", "chat-1").stderr
    assert talk("127.0.0.1:1", "chat-1", "--timeout", "1").returncode == 1


def test_a_server_that_dies_between_two_prompts(
    start_server: Callable[..., ServerProcess], data_dir: Path, tmp_path: Path
) -> None:
    listen = ("--listen", f"127.0.0.1:{free_port()}")
    server = start_server(*listen, SESSIOND_DATA_DIR=str(data_dir))
    with talking(server.target, "chat-1", tmp_path / "notes") as chatting:
        chatting.say("first")
        assert chatting.heard() == "echo of 1 message: first"
        server.kill()
        chatting.say("second")
        chatting.wait_for_note("the server does not answer")
        start_server(*listen, SESSIOND_DATA_DIR=str(data_dir))
        # The repeated prompt is in the history only once.
        assert chatting.heard() == "echo of 3 messages: second"
        chatting.say("third")
        assert chatting.heard() == "echo of 5 messages: third"
        chatting.say("/quit")
        assert chatting.process.wait(TIMEOUT_S) == 0


def test_a_lost_turn_is_reported(
    start_server: Callable[..., ServerProcess], database_url: str, tmp_path: Path
) -> None:
    flags = ("--listen", f"127.0.0.1:{free_port()}", "--turn-lease-s", "2")
    server = start_server(*flags, SESSIOND_DATABASE_URL=database_url)
    with Client(server.target) as client:
        session = client.create_session(
            "chat-1", config={"model_options": {"echo_delay_ms": 60_000}}
        )
        with talking(server.target, "chat-1", tmp_path / "notes") as chatting:
            chatting.say("first")
            until(lambda: session.turns(state="running").to_list() != [], "the turn ran")
            server.kill()
            start_server(*flags, SESSIOND_DATABASE_URL=database_url)
            chatting.wait_for_note("TURN_LOST")
            session.update(config={})
            chatting.say("second")
            assert chatting.heard() == "echo of 2 messages: second"


def test_ctrl_c_aborts_the_answer(server: ServerProcess, client: Client) -> None:
    session = client.create_session(
        "chat-1", config={"model_options": {"echo_text": "one " * 100, "echo_delay_ms": 1000}}
    )
    terminal = Terminal(server.target, "chat-1")
    try:
        terminal.wait_for("> ")
        # The typed text is dropped.
        terminal.type("no")
        terminal.wait_for("no")
        terminal.interrupt("> ")
        terminal.type("count\r")
        terminal.wait_for("one ")
        terminal.type("\x03")
        terminal.wait_for("(aborted)")
        terminal.wait_for("> ")
        session.update(config={})
        terminal.type("again\r")
        terminal.wait_for("echo of 3 messages: again")
        terminal.wait_for("> ")
        terminal.type("\x04")
        assert terminal.process.wait(TIMEOUT_S) == 0
    finally:
        terminal.close()
    assert [turn.state for turn in session.turns()] == ["completed", "aborted"]


def test_an_interrupt_ends_a_chat_without_a_terminal(
    server: ServerProcess, client: Client, tmp_path: Path
) -> None:
    session = client.create_session("chat-1", config={"model_options": {"echo_delay_ms": 60_000}})
    with talking(server.target, "chat-1", tmp_path / "notes") as chatting:
        chatting.say("first")
        chatting.say("never sent")
        until(lambda: session.turns(state="running").to_list() != [], "the turn ran")
        chatting.process.send_signal(signal.SIGINT)
        assert chatting.process.wait(TIMEOUT_S) == 130
    assert [turn.state for turn in session.turns()] == ["aborted"]


def test_undecodable_input_is_sent_with_replacement_characters(server: ServerProcess) -> None:
    done = subprocess.run(
        [*COMMAND, "chat-1"],
        input=b"caf\xe9\n",
        env=environment(server.target) | {"PYTHONUTF8": "1"},
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stdout.decode()) == (0, "echo of 1 message: caf\ufffd\n")


def test_ctrl_c_aborts_a_queued_turn(server: ServerProcess, client: Client) -> None:
    session = client.create_session("chat-1", config={"model_options": {"echo_delay_ms": 60_000}})
    session.send("somebody else's")
    terminal = Terminal(server.target, "chat-1")
    try:
        terminal.wait_for("> ")
        terminal.type("mine\r")
        until(lambda: session.turns(state="queued").to_list() != [], "the turn waited")
        terminal.type("\x03")
        terminal.wait_for("(aborted)")
    finally:
        terminal.close()
    assert [turn.state for turn in session.turns()] == ["aborted", "running"]
    session.abort()


def test_a_server_that_stays_away(
    start_server: Callable[..., ServerProcess],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name in ("PATIENCE_S", "SILENCE_S"):
        monkeypatch.setattr(chat, name, 0.1)
    server = start_server(SESSIOND_DATABASE_URL=database_url)
    with Client(server.target) as client:
        session = client.create_session("chat-1")
        server.kill()
        assert not chat._Answer(session, "Hello").show()
    assert "did not come back, and the prompt may have been accepted" in capfd.readouterr().err
