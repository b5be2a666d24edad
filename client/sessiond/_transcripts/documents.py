"""Conversations of ShareGPT and of LangChain: JSON documents, or lines of JSON."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from sessiond._protocol.ids import message_id, part
from sessiond._transcripts.lines import (
    MAX_ITEM_CHARACTERS,
    elements_of,
    first_character,
    items_of,
    lines_of,
    members_of,
)
from sessiond._transcripts.records import Ids, Line, Transcript, files_below, parsed, string_of
from sessiond._types.transcripts import BadLine

_Placed: TypeAlias = tuple[int, str | BadLine]


@dataclass(frozen=True, slots=True)
class Documents:
    """A program that writes conversations as documents.

    Attributes:
        name: the program's format_name, with which the ids of its sessions begin.
        keys: the keys under which an object may hold the messages of a conversation.
        is_message: returns whether an object is a single message. If a file holds such objects,
            they form one conversation.
    """

    name: str
    keys: tuple[str, ...]
    is_message: Callable[[dict[str, Any]], bool]

    def find(self, directory: Path) -> list[Path]:
        """Return the files below a directory."""
        return files_below(directory, "*.json", "*.jsonl")

    def read(self, path: Path) -> Iterator[Transcript | BadLine]:
        """Yield the conversations in a file, one at a time."""
        stem = part(path.stem, 200, "path")
        for place, text in _values(path):
            if isinstance(text, BadLine):
                yield text
                continue
            if text.lstrip()[:1] == "[":
                # A list of messages in a list of conversations.
                yield self._transcript(path, f"{stem}/{place}", text, {})
                continue
            try:
                value = parsed(text.encode())
            except ValueError as error:
                yield BadLine(place, str(error))
                continue
            if self.is_message(value):
                # The whole file is one conversation.
                yield Transcript(
                    path,
                    f"{self.name}/{stem}",
                    lambda: self._lines(_placed(path)),
                    metadata={self.name: {"file": path.name}},
                )
                return
            messages = self._messages(text)
            if messages is None:
                keys = " or ".join(map(repr, self.keys))
                yield BadLine(place, f"is neither a message nor a conversation with {keys}")
                continue
            name = string_of(value.get("id"))
            ending = part(name, 200, "id") if name else str(place)
            yield self._transcript(path, f"{stem}/{ending}", messages, {"id": name} if name else {})

    def _transcript(
        self, path: Path, ending: str, messages: str, described: dict[str, str]
    ) -> Transcript:
        def lines() -> Iterator[Line | BadLine]:
            elements = enumerate(elements_of(messages), 1)
            return self._lines((place, raw) for place, (raw, _) in elements)

        metadata = {self.name: {"file": path.name, **described}}
        return Transcript(path, f"{self.name}/{ending}", lines, metadata=metadata)

    def _messages(self, text: str) -> str | None:
        """Return the text of the list of messages in a conversation."""
        for key, raw, inner in members_of(text):
            if key in self.keys and isinstance(inner, list):
                return raw
            if key == "kwargs" and isinstance(inner, dict):
                return self._messages(raw)
        return None

    def _lines(self, placed: Iterator[_Placed]) -> Iterator[Line | BadLine]:
        ids, given = Ids(), set[str]()
        for place, raw in placed:
            if isinstance(raw, BadLine):
                yield raw
                continue
            text = raw.encode()
            try:
                value = parsed(text)
            except ValueError as error:
                yield BadLine(place, str(error), text)
                continue
            if not self.is_message(value):
                yield BadLine(place, f"is not a message of {self.name}", text)
                continue
            name = message_id(_id_of(value))
            if not name or name in given:
                name = ids.of(text)
            given.add(name)
            yield Line(place, raw, name, None, self.name)


def _id_of(message: dict[str, Any]) -> str:
    for inner in (message.get("data"), message.get("kwargs"), message):
        if isinstance(inner, dict) and (found := string_of(inner.get("id"))):
            return found
    return ""


def _values(path: Path) -> Iterator[_Placed]:
    """Yield the texts in a file: the items of a list, the lines, or the document itself."""
    if first_character(path) == "{" and _is_one_document(path):
        yield 1, path.read_text(encoding="utf-8-sig")
    else:
        yield from _placed(path)


def _is_one_document(path: Path) -> bool:
    """Whether a file is one object over several lines."""
    for _, line in lines_of(path):
        try:
            parsed(b"" if isinstance(line, BadLine) else line)
        except ValueError:
            break
        return False
    if path.stat().st_size > MAX_ITEM_CHARACTERS:
        return False
    try:
        parsed(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except ValueError:
        return False
    return True


def _placed(path: Path) -> Iterator[_Placed]:
    """Yield the items of a list, or the lines of a file."""
    if first_character(path) != "[":
        for number, line in lines_of(path):
            yield number, line if isinstance(line, BadLine) else _decoded(number, line)
        return
    count = 0
    try:
        for count, text in enumerate(items_of(path), 1):
            yield count, text
    except ValueError as error:
        yield count + 1, BadLine(count + 1 if count else 0, str(error))


def _decoded(number: int, line: bytes) -> str | BadLine:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        return BadLine(number, f"is not UTF-8: {error.reason} at byte {error.start}", line)


def _has_type(value: dict[str, Any]) -> bool:
    """Whether an object is a message of LangChain, in either form."""
    return isinstance(value.get("type"), str) and (
        isinstance(value.get("data"), dict)
        or "content" in value
        or (isinstance(kwargs := value.get("kwargs"), dict) and "content" in kwargs)
    )


def _is_turn(value: dict[str, Any]) -> bool:
    is_turn = "from" in value and ("value" in value or "text" in value)
    return is_turn or ("role" in value and "content" in value)


SHAREGPT = Documents("sharegpt", ("conversations", "conversation", "messages", "items"), _is_turn)
LANGCHAIN = Documents("langchain", ("messages", "history"), _has_type)
