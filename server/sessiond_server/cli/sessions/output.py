"""Output of the subcommands."""

import json
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Protocol

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from sessiond import Message

_CONTENT_CHARACTERS = 2_000


class ProgressCallback(Protocol):
    """Called with the amount of work done, and with the total amount if it is known."""

    def __call__(self, done: int, total: int | None, /) -> None: ...


def print_json(value: object) -> None:
    """Print one JSON document."""
    sys.stdout.write(_json(value, indent=2) + "\n")


def print_json_line(value: object) -> None:
    sys.stdout.write(_json(value) + "\n")


def _json(value: object, indent: int | None = None) -> str:
    """Return JSON text that stdout can encode."""
    is_unicode = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    text = json.dumps(value, indent=indent, ensure_ascii=not is_unicode)
    # UTF-8 cannot encode a lone surrogate. Python escapes it in the same way as JSON.
    return text.encode(errors="backslashreplace").decode()


def print_line(text: str = "") -> None:
    sys.stdout.write(harmless(text).rstrip() + "\n")


def note(text: str) -> None:
    """Print a line to stderr, separately from the result."""
    sys.stderr.write(f"{harmless(text)}\n")


def flush() -> None:
    """Flush what has been printed so far."""
    sys.stdout.flush()


def print_rows(rows: Iterable[Sequence[str]], widths: list[int]) -> None:
    """Print rows in columns. The last column is cut off at the width of a terminal.

    Args:
        rows: the cells of each row.
        widths: minimum widths of the columns, which are increased in place as the rows require.
    """
    shown = [[" ".join(cell.split()) for cell in row] for row in rows]
    for row in shown:
        widths[:] = [max(width, cell_len(cell)) for width, cell in zip(widths, row, strict=True)]
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for row in shown:
        fixed = "  ".join(
            set_cell_size(cell, width) for cell, width in zip(row[:-1], widths, strict=False)
        )
        room = columns - cell_len(fixed) - 2
        last = set_cell_size(row[-1], room) if 0 < room < cell_len(row[-1]) else row[-1]
        print_line(f"{fixed}  {last}")


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print names and values, omitting empty values."""
    for name, value in fields:
        if value:
            print_line(f"{name:12} {value}")


def print_message(message: Message) -> None:
    """Print a message for people to read: its text or else its JSON, shortened if it is long."""
    print_line(f"#{message.seq}  {message.role}  {local(message.created_at)}")
    text = message.content or message.json
    if len(text) > _CONTENT_CHARACTERS:
        text = f"{text[:_CONTENT_CHARACTERS]}… ({len(text):,} characters)"
    for line in text.splitlines():
        print_line(f"  {line}")


def local(time: datetime) -> str:
    """Format a time in this machine's time zone, to the second."""
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S}"


def duration(value: timedelta) -> str:
    return f"{value.total_seconds():,g} s"


def many(count: int, noun: str) -> str:
    """Return a count with its noun, e.g. "1 session" or "1,200 sessions"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def harmless(text: str) -> str:
    """Return a text with U+FFFD in place of each character that must not be printed.

    These are control characters, which could manipulate the terminal, and lone surrogates, which
    UTF-8 cannot encode.
    """
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", text)


@contextmanager
def progress(what: str, *, of_bytes: bool = False) -> Iterator[ProgressCallback]:
    """Show a progress bar on stderr, if stderr is a terminal.

    Args:
        what: name of the work, for people to read.
        of_bytes: show numbers of bytes as sizes.

    Yields:
        A callback that updates the bar. The bar is indeterminate until the callback gets a total.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn() if of_bytes else MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    is_shown = console.is_terminal
    # The output streams are not redirected through the bar. What is printed during the block is the
    # command's result, which may go to a file.
    with Progress(
        *columns,
        console=console,
        transient=True,
        disable=not is_shown,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
