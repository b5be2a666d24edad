"""Transcripts, their lines, and how the lines follow each other."""

import base64
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson

from sessiond._types.transcripts import BadLine

BAD_LINE = "bad-line"
"""format_name of the messages that keep lines which cannot be read."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a transcript, or a message of a document.

    Attributes:
        place: the line's number, or the message's place in the document; from 1.
        json: the text, as it is stored.
        message_id: the id of the message, unique in its transcript.
        parent: message_id of the message that this one follows. None = the one before it; "" =
            none.
        format_name: the program's format.
    """

    place: int
    json: bytes | str
    message_id: str
    parent: str | None
    format_name: str


@dataclass(slots=True)
class Transcript:
    """One transcript, which becomes one session.

    Attributes:
        path: the file.
        session_id: the id of its session, without a prefix.
        lines: the lines, read while they are iterated over. A line that cannot be read is a
            BadLine. Each call begins at the first line.
        title: the title of a new session. "" = none.
        metadata: the metadata of a new session.
    """

    path: Path
    session_id: str
    lines: Callable[[], Iterator[Line | BadLine]]
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Program(Protocol):
    """A program whose transcripts can be read."""

    def find(self, directory: Path) -> Iterable[Path]:
        """Return the files of transcripts below a directory."""
        ...

    def read(self, path: Path) -> Iterator["Transcript | BadLine"]:
        """Yield the transcripts in a file; a BadLine for each part that cannot be read.

        Raises:
            OSError: if the file cannot be read.
        """
        ...


class Ids:
    """Gives ids to lines without one: a hash of the line, and a number if the line is repeated."""

    def __init__(self) -> None:
        self._counts: Counter[bytes] = Counter()

    def of(self, text: bytes) -> str:
        """Return the id of a line. The same file always gets the same ids."""
        digest = hashlib.sha256(text).digest()[:20]
        self._counts[digest] += 1
        count = self._counts[digest]
        return f"sha256:{digest.hex()}" + (f":{count}" if count > 1 else "")


def parsed(text: bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        ValueError: if the text is not a JSON object. The message says why.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = _parsed_slowly(text)
    if not isinstance(value, dict):
        raise ValueError("is JSON, but not an object")
    return value


def _parsed_slowly(text: bytes) -> Any:
    """Parse what orjson refuses: halves of surrogate pairs, and integers beyond 64 bits."""
    try:
        return json.loads(text.decode(), parse_constant=_refused)
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _refused(constant: str) -> None:
    raise ValueError(f"is not JSON: it contains {constant}")


def kept(bad: BadLine) -> Line:
    """Return the message that keeps a line which cannot be read: its text, or else its bytes."""
    shown: dict[str, Any] = {"line": bad.line, "reason": bad.reason}
    try:
        shown["text"] = bad.text.decode()
    except UnicodeDecodeError:
        shown["base64"] = base64.b64encode(bad.text).decode()
    message_id = f"bad:{bad.line}:{hashlib.sha256(bad.text).hexdigest()[:40]}"
    return Line(bad.line, orjson.dumps(shown), message_id, None, BAD_LINE)


def string_of(value: object) -> str:
    """Return the value if it is a string, else ""."""
    return value if isinstance(value, str) else ""


def files_below(directory: Path, *patterns: str) -> list[Path]:
    """Return the files below a directory whose names match, in the order of their paths."""
    found: set[Path] = set()
    for folder, _, names in os.walk(directory):
        for name in names:
            path = Path(folder, name)
            if any(path.match(pattern) for pattern in patterns):
                found.add(path)
    return sorted(found)
