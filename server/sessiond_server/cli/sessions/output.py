"""What the commands print."""

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
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sessiond import Message

_CONTENT_CHARACTERS = 2_000


class Told(Protocol):
    """Is told how far the work is."""

    def __call__(self, done: int, total: int | None, /) -> None: ...


def print_json(value: object) -> None:
    """One document."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_json_line(value: object) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def print_line(text: str = "") -> None:
    sys.stdout.write(harmless(text).rstrip() + "\n")


def note(text: str) -> None:
    """A line beside the answer, on stderr."""
    sys.stderr.write(f"{harmless(text)}\n")


def flush() -> None:
    """Let those who wait for it see what is printed so far."""
    sys.stdout.flush()


def print_rows(rows: Iterable[Sequence[str]], widths: list[int]) -> None:
    """Rows in columns, the last one cut where a terminal ends.

    Args:
        widths: at the least; grown to what the rows need.
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
    """Names and values, without those that are empty."""
    for name, value in fields:
        if value:
            print_line(f"{name:12} {value}")


def print_message(message: Message) -> None:
    """A message for people: its text or, where it has none, its JSON; long ones are cut."""
    print_line(f"#{message.seq}  {message.role}  {local(message.created_at)}")
    text = message.content or message.json
    if len(text) > _CONTENT_CHARACTERS:
        text = f"{text[:_CONTENT_CHARACTERS]}… ({len(text):,} characters)"
    for line in text.splitlines():
        print_line(f"  {line}")


def local(time: datetime) -> str:
    """In this machine's time zone, to the second."""
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S}"


def duration(value: timedelta) -> str:
    return f"{value.total_seconds():,g} s"


def many(count: int, noun: str) -> str:
    """E.g. "1 session", "1,200 sessions"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def harmless(text: str) -> str:
    """Texts may come from anywhere: what would move a terminal's cursor, or worse, is shown as a replacement character."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\ufffd", text)


@contextmanager
def progress(what: str) -> Iterator[Told]:
    """A bar on stderr, where that is a terminal. It runs to and fro until it is told of a total."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    is_shown = console.is_terminal
    # Not redirected: what is printed meanwhile is our answer, and may go into a file.
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
