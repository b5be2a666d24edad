"""`sessiond chat SESSION_ID`: a conversation at a terminal, or by lines from elsewhere, through the client."""

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

# A server that is being restarted is back within that.
PATIENCE_S = 60.0
# A stream is silent while a model thinks, and while the server is away: after so long it is asked which.
SILENCE_S = 3.0
LOOK_TIMEOUT_S = 2.0
RETRY_DELAY_S = 0.5

_HELP = """\
/history N   the newest N messages
/help        this
/quit        end, as Ctrl-D does; the session stays as it is
//...        a line that begins with a slash
Ctrl-C while the model answers aborts the answer."""

_EPILOG = f"""\
A line is a prompt. Where standard input is no terminal, its lines are sent one after the other, and the exit code is 1 where one had no
answer. A prompt that is sent while the server is away is sent again for {PATIENCE_S:g} seconds, and counts once.

{_HELP}"""


class _Signs(Enum):
    INTERRUPT = auto()
    DONE = auto()


_Item: TypeAlias = Event | Exception | _Signs


class _Left(Exception):
    """Nobody waits for the answer any longer. Its text says why."""


def run(arguments: list[str]) -> int:
    """Talk. Raises: CommandError."""
    parser = argparse.ArgumentParser(
        prog="sessiond chat",
        description="Talk with a model in a session of a running server, which is made where it is not there.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "session_id", metavar="SESSION_ID", help="of a session to go on with, or to make"
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="to ask here, and by default in a session that is made. Default: the session's",
    )
    parser.add_argument(
        "--new", action="store_true", help="fail where there is such a session already"
    )
    parser.add_argument(
        "--history",
        type=client.count,
        default=10,
        metavar="N",
        help="show the newest N messages at first. Default: 10",
    )
    client.add_flags(parser)
    return client.run(parser.parse_args(arguments), _chat)


def _chat(connected: Client, given: argparse.Namespace) -> int:
    if given.new:
        session = connected.create_session(given.session_id, model=given.model)
    else:
        session = connected.get_or_create_session(given.session_id, model=given.model)
    _show(session, given.history)
    if isinstance(sys.stdin, io.TextIOWrapper):
        # What is no text in this machine's encoding is shown as such, and not a reason to stop.
        sys.stdin.reconfigure(errors="replace")
    is_asked = sys.stdin.isatty() and sys.stdout.isatty()
    if is_asked:
        # Lines can be edited where Python has it.
        with suppress(ImportError):
            import readline  # noqa: F401
        output.note(f"session {session.session_id}: /help says more, Ctrl-D ends")
    failures = 0
    for line in _lines(is_asked):
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
                output.note(f"there is no command {line!r}; /help names them, and //... sends it")
            case _:
                answer = _Answer(session, line.removeprefix("/"), given.model)
                failures += not answer.shown()
                if answer.is_interrupted and not is_asked:
                    # There is nobody to go back to.
                    raise KeyboardInterrupt
        output.flush()
    return 1 if failures and not is_asked else 0


def _lines(is_asked: bool) -> Iterator[str]:
    """What is typed, without what is empty."""
    while True:
        try:
            # Without a terminal nothing is asked, so that the output is answers alone.
            line = input("> ") if is_asked else _next_line()
        except EOFError:
            if is_asked:
                output.print_line()
            return
        except KeyboardInterrupt:
            if not is_asked:
                raise
            output.print_line()
            continue
        if line.strip():
            yield line


def _next_line() -> str:
    """Raises: EOFError."""
    if not (line := sys.stdin.readline()):
        raise EOFError
    return line.rstrip("\r\n")


def _show(session: Session, count: int) -> None:
    """The newest messages, the oldest of them first."""
    last_seq = session.refresh().last_seq
    # through_seq = 0 would mean "to the newest".
    if count and last_seq:
        for message in session.get_messages(
            after_seq=max(last_seq - count, 0), through_seq=last_seq
        ):
            output.print_message(message)
    output.flush()


class _Answer:
    """One prompt, and what comes of it.

    The stream is read in a thread of its own, and what it brings is taken here: an interrupt that is raised within gRPC could be lost.
    """

    def __init__(self, session: Session, prompt: str, model: str | None) -> None:
        self._session = session
        self._prompt = prompt
        self._keywords: dict[str, Any] = {"request_id": str(uuid.uuid4()), "model": model}
        self._items: SimpleQueue[_Item] = SimpleQueue()
        self._is_left = threading.Event()
        self._turn_id: str | None = None
        self._seq = 0
        self._away_since: float | None = None
        self.is_interrupted = False
        self._written = ""

    def shown(self) -> bool:
        """Print it while it is written. Answers whether all of it came."""
        try:
            with _interrupts(lambda: self._items.put(_Signs.INTERRUPT)):
                threading.Thread(target=self._read, name="sessiond-answer", daemon=True).start()
                while self._take():
                    output.flush()
        except _Left as left:
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
            self._is_left.set()
        return False

    def _read(self) -> None:
        """Have the turn's events come, over servers that go and come again. The same request_id joins the same turn."""
        while not self._is_left.is_set():
            try:
                for event in self._session.stream(self._prompt, **self._keywords):
                    self._items.put(event)
            except (Unavailable, DeadlineExceeded):
                self._is_left.wait(RETRY_DELAY_S)
            except Exception as error:
                self._items.put(error)
                return
            else:
                self._items.put(_Signs.DONE)
                return

    def _take(self) -> bool:
        """What comes next. Answers whether there is more to come. Raises: what ends it without an answer."""
        try:
            item = self._items.get(timeout=SILENCE_S)
        except Empty:
            self._look()
            return True
        match item:
            case _Signs.DONE:
                return False
            case _Signs.INTERRUPT:
                self._abort()
            case Exception():
                raise item
            case Event():
                self._print(item)
        return True

    def _look(self) -> None:
        """Whether the server is there. Raises: _Left, when it was away for too long."""
        try:
            self._session.refresh(timeout=LOOK_TIMEOUT_S)
        except (Unavailable, DeadlineExceeded) as error:
            now = time.monotonic()
            if self._away_since is None:
                self._away_since = now
                self._end_line()
                output.note(f"(the server does not answer; trying for {PATIENCE_S:g} seconds)")
            elif now - self._away_since > PATIENCE_S:
                raise _Left(
                    f"the server did not come back, and the prompt may have been taken: {_one_line(error)}"
                ) from None
        else:
            if self._away_since is not None:
                output.note("(the server is back)")
            self._away_since = None

    def _abort(self) -> None:
        """Raises: _Left, where there is no time for it."""
        if self.is_interrupted:
            raise _Left("the turn is left alone; it may go on")
        self.is_interrupted = True
        try:
            if self._turn_id is None:
                # It waits for other turns, or is on its way: sent again, it is the same turn.
                self._turn_id = self._session.send(
                    self._prompt, timeout=LOOK_TIMEOUT_S, **self._keywords
                ).turn_id
            self._session.abort(self._turn_id, timeout=LOOK_TIMEOUT_S)
        except (Unavailable, DeadlineExceeded):
            raise _Left("the server does not answer, and the turn may go on") from None

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
        elif message and event.type == "assistant.message":
            self._finish(message)

    def _write(self, text: str) -> None:
        sys.stdout.write(output.harmless(text))
        self._written += text

    def _finish(self, message: Message) -> None:
        """All of the message is there, whatever of it had come before."""
        content = message.content or message.json
        if not content.startswith(self._written):
            # Some of it was missed while the connection was down, or it was another attempt's.
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
    """Have Ctrl-C call a function, and nothing else, while the block runs."""
    before = signal.signal(signal.SIGINT, lambda *_: call())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
