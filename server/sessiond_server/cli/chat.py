"""`sessiond chat`: a conversation with a model, in a terminal or with lines from stdin."""

import argparse
import io
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

from sessiond import Client, Event, Message, Session
from sessiond.errors import DeadlineExceeded, SessiondError, TurnAborted, TurnFailed, Unavailable
from sessiond_server.cli import client
from sessiond_server.cli.sessions import output

# A prompt is retried for this long while the server is unreachable, which is enough for a restart.
PATIENCE_S = 60.0
# After this much silence, ping the server, to find out whether it is gone or the model is thinking.
SILENCE_S = 3.0
PING_TIMEOUT_S = 2.0
RETRY_DELAY_S = 0.5

_HELP = """\
/history N   show the newest N messages
/help        show this help
/quit        quit, as Ctrl-D does; the session is kept
//...        send a line that begins with a slash
Ctrl-C while the model answers aborts the answer."""

_EPILOG = f"""\
Each line is a prompt. If standard input is not a terminal, its lines are sent one after another,
and the exit code is 1 if any of them got no answer. While the server is away, a prompt is retried
for {PATIENCE_S:g} seconds; it is never sent twice.

{_HELP}"""


class _Signal(Enum):
    INTERRUPT = auto()
    DONE = auto()


_Item: TypeAlias = Event | Exception | _Signal


class _GivenUp(Exception):
    """The command stops waiting for the answer. The text says why."""


def run(arguments: list[str]) -> int:
    """Run a conversation.

    Args:
        arguments: the session's id, and flags.

    Returns:
        The exit code.

    Raises:
        CommandError: if the conversation cannot start.
    """
    return client.run(parser().parse_args(arguments), _chat)


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command."""
    result = argparse.ArgumentParser(
        prog="sessiond chat",
        description="Talk to a model in a session of a running server. The session is created if "
        "it does not exist.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    result.add_argument(
        "session_id", metavar="SESSION_ID", help="id of the session to continue or create"
    )
    result.add_argument(
        "--model",
        metavar="NAME",
        help="model to use here, and as the default of a new session. Default: the session's model",
    )
    result.add_argument("--new", action="store_true", help="fail if the session already exists")
    result.add_argument(
        "--history",
        type=client.count,
        default=10,
        metavar="N",
        help="number of newest messages to show first. Default: 10",
    )
    result.add_argument(
        "--options",
        type=client.json_object,
        metavar="JSON",
        help="options of the model, a JSON object that is passed to it unchanged",
    )
    result.add_argument(
        "--turn-timeout",
        type=client.seconds,
        metavar="SECONDS",
        help="time after which an answer is ended. Default: the server's limit",
    )
    client.add_flags(result)
    return result


def _chat(connected: Client, given: argparse.Namespace) -> int:
    if given.new:
        session = connected.create_session(given.session_id, model=given.model)
    else:
        session = connected.get_or_create_session(given.session_id, model=given.model)
    _show(session, given.history)
    if isinstance(sys.stdin, io.TextIOWrapper):
        # Bytes that are invalid in this machine's encoding become U+FFFD instead of raising an
        # error.
        sys.stdin.reconfigure(errors="replace")
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if is_terminal:
        # Importing readline makes lines editable, if this Python has it.
        with suppress(ImportError):
            import readline  # noqa: F401
        output.note(f"session {session.session_id}: /help for help, Ctrl-D to quit")
    failures = 0
    for line in _lines(is_terminal):
        command, _, rest = line.partition(" ")
        match command:
            case "/quit" | "/exit":
                break
            case "/help":
                output.print_line(_HELP)
            case "/history" if rest.strip().isdecimal() or not rest.strip():
                try:
                    _show(session, int(rest.strip() or 10))
                except SessiondError as error:
                    output.note(f"sessiond chat: {_one_line(error)}")
            case _ if line.startswith("/") and not line.startswith("//"):
                output.note(f"unknown command {line!r}; /help lists the commands, //... sends it")
            case _:
                answer = _Answer(
                    session,
                    line.removeprefix("/"),
                    model=given.model,
                    options=given.options,
                    turn_timeout=given.turn_timeout,
                )
                failures += not answer.show()
                if answer.is_interrupted and not is_terminal:
                    # Ctrl-C without a terminal ends the command.
                    raise KeyboardInterrupt
        output.flush()
    return 1 if failures and not is_terminal else 0


def _lines(is_terminal: bool) -> Iterator[str]:
    """Yield the lines of input that are not empty."""
    while True:
        try:
            # Without a terminal, no prompt sign is printed, so that the output contains only
            # answers.
            line = input("> ") if is_terminal else _next_line()
        except EOFError:
            if is_terminal:
                output.print_line()
            return
        except KeyboardInterrupt:
            if not is_terminal:
                raise
            output.print_line()
            continue
        if line.strip():
            yield line


def _next_line() -> str:
    if not (line := sys.stdin.readline()):
        raise EOFError
    return line.rstrip("\r\n")


def _show(session: Session, count: int) -> None:
    """Print the newest messages, oldest first."""
    last_seq = session.refresh().last_seq
    # A through_seq of 0 would mean the newest message.
    if count and last_seq:
        for message in session.get_messages(
            after_seq=max(last_seq - count, 0), through_seq=last_seq
        ):
            output.print_message(message)
    output.flush()


class _Answer:
    """One prompt and its answer.

    A separate thread reads the stream and passes its events to the main thread, because an
    interrupt that is raised within gRPC might be lost.
    """

    def __init__(self, session: Session, prompt: str, **options: Any) -> None:
        self._session = session
        self._prompt = prompt
        self._keywords = {"request_id": str(uuid.uuid4()), **options}
        self._items: SimpleQueue[_Item] = SimpleQueue()
        self._is_done = threading.Event()
        self._turn_id: str | None = None
        self._seq = 0
        self._away_since: float | None = None
        self.is_interrupted = False
        self._written = ""

    def show(self) -> bool:
        """Print the answer as it arrives, and return whether it is complete."""
        try:
            with _interrupts(lambda: self._items.put(_Signal.INTERRUPT)):
                threading.Thread(target=self._read, name="sessiond-answer", daemon=True).start()
                while self._take():
                    output.flush()
        except _GivenUp as left:
            self._end_line()
            output.note(f"sessiond chat: {left}")
        except TurnAborted:
            self._end_line()
            output.note("(aborted)")
        except TurnFailed as error:
            self._end_line()
            output.note(f"sessiond chat: the turn failed: {_one_line(error)}")
        except SessiondError as error:
            self._end_line()
            output.note(f"sessiond chat: {_one_line(error)}")
        else:
            return True
        finally:
            self._is_done.set()
        return False

    def _read(self) -> None:
        """Read the turn's events.

        After a server restart, sending the prompt again with the same request_id joins the same
        turn.
        """
        while not self._is_done.is_set():
            try:
                for event in self._session.stream(self._prompt, **self._keywords):
                    self._items.put(event)
            except (Unavailable, DeadlineExceeded):
                self._is_done.wait(RETRY_DELAY_S)
            except Exception as error:
                self._items.put(error)
                return
            else:
                self._items.put(_Signal.DONE)
                return

    def _take(self) -> bool:
        """Process the next item, and return whether more items follow.

        Raises the error that ends the turn.
        """
        try:
            item = self._items.get(timeout=SILENCE_S)
        except Empty:
            self._ping()
            return True
        match item:
            case _Signal.DONE:
                return False
            case _Signal.INTERRUPT:
                self._abort()
            case Exception():
                raise item
            case Event():
                self._print(item)
        return True

    def _ping(self) -> None:
        """Check that the server responds. Raise _GivenUp if it has not done so for too long."""
        try:
            self._session.refresh(timeout=PING_TIMEOUT_S)
        except (Unavailable, DeadlineExceeded) as error:
            now = time.monotonic()
            if self._away_since is None:
                self._away_since = now
                self._end_line()
                output.note(f"(the server does not answer; retrying for {PATIENCE_S:g} seconds)")
            elif now - self._away_since > PATIENCE_S:
                raise _GivenUp(
                    "the server did not come back, and the prompt may have been accepted: "
                    f"{_one_line(error)}"
                ) from None
        else:
            if self._away_since is not None:
                output.note("(the server is back)")
            self._away_since = None

    def _abort(self) -> None:
        """Abort the turn. Raise _GivenUp at a second Ctrl-C, or if the server does not respond."""
        if self.is_interrupted:
            raise _GivenUp("the turn was not aborted and may continue")
        self.is_interrupted = True
        try:
            if self._turn_id is None:
                # The turn is queued or not yet accepted. Sending the prompt again returns the same
                # turn.
                self._turn_id = self._session.send(
                    self._prompt, timeout=PING_TIMEOUT_S, **self._keywords
                ).turn_id
            self._session.abort(self._turn_id, timeout=PING_TIMEOUT_S)
        except (Unavailable, DeadlineExceeded):
            raise _GivenUp("the server does not answer; the turn may continue") from None

    def _print(self, event: Event) -> None:
        message = event.message
        if event.seq and event.seq <= self._seq:
            return
        self._seq = event.seq or self._seq
        self._turn_id = (
            message.turn.turn_id if message and message.turn else event.data.get("turn_id")
        ) or self._turn_id
        if event.type == "assistant.message_delta":
            self._write(str(event.data.get("delta_content", "")))
        elif event.type == "assistant.message_partial":
            # The chat has joined a running turn: this is its text so far.
            text = str(event.data.get("content", ""))
            self._write(text[len(self._written) :] if text.startswith(self._written) else text)
        elif message and event.type == "assistant.message":
            self._finish(message)

    def _write(self, text: str) -> None:
        sys.stdout.write(output.harmless(text))
        self._written += text

    def _finish(self, message: Message) -> None:
        """Print the part of a complete message that has not been printed yet."""
        content = message.content or message.json
        if not content.startswith(self._written):
            # Deltas were lost with the connection, or belonged to an earlier attempt.
            self._end_line()
        self._write(content[len(self._written) :])
        self._end_line()

    def _end_line(self) -> None:
        if self._written:
            sys.stdout.write("\n")
        output.flush()
        self._written = ""


def _one_line(error: SessiondError) -> str:
    return " ".join(str(error).split())


@contextmanager
def _interrupts(call: Callable[[], None]) -> Iterator[None]:
    """Make Ctrl-C only call a function while the block runs."""
    before = signal.signal(signal.SIGINT, lambda *_: call())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
