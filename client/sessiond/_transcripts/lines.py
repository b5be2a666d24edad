"""Files of lines, and files that are one JSON document, read in pieces."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sessiond._types.transcripts import BadLine

# No message is longer than this: by default, servers accept messages of at most 16 MiB.
MAX_LINE_BYTES = 64 * 1024 * 1024
# A longer conversation of a document is not read.
MAX_ITEM_CHARACTERS = 512 * 1024 * 1024
_READ_BYTES = 256 * 1024
_BOM = b"\xef\xbb\xbf"
_SPACE = " \t\r\n"
_DECODER = json.JSONDecoder()


def lines_of(path: Path) -> Iterator[tuple[int, bytes | BadLine]]:
    """Yield the lines of a file that are not blank, with their numbers, without their ends.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                while line and not line.endswith(b"\n"):
                    line = file.readline(_READ_BYTES)
                reason = f"is longer than {MAX_LINE_BYTES // 1024 // 1024} MiB"
                yield number, BadLine(number, reason)
                continue
            if number == 1:
                line = line.removeprefix(_BOM)
            line = line.rstrip(b"\r\n")
            if line and not line.isspace():
                yield number, line


def first_character(path: Path) -> str:
    """Return the first character of a file that is not white space. "" = there is none."""
    with path.open("rb") as file:
        start = file.read(4096).removeprefix(_BOM).lstrip()
    return start[:1].decode("latin-1")


def items_of(path: Path) -> Iterator[str]:
    """Yield the text of each item of a JSON document that is a list. Hold one item at a time.

    Raises:
        ValueError: if the document is broken. The items before the fault have been yielded.
        OSError: if the file cannot be read.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        text, place, count, is_end = file.read(_READ_BYTES), 0, 0, False
        place = _skip(text, 0)
        if text[place : place + 1] != "[":
            raise ValueError("is not a JSON list")
        place += 1
        while True:
            place = _skip(text, place, also="," if count else "")
            if place < len(text):
                if text[place] == "]":
                    return
                try:
                    _, end = _DECODER.raw_decode(text, place)
                except json.JSONDecodeError as error:
                    if is_end or len(text) - place > MAX_ITEM_CHARACTERS:
                        raise ValueError(f"is not JSON: {error.msg}, in item {count + 1}") from None
                except RecursionError:
                    raise ValueError(f"is nested too deeply, in item {count + 1}") from None
                else:
                    # A number at the end of the buffer may be incomplete.
                    if end < len(text) or is_end:
                        count += 1
                        yield text[place:end]
                        place = end
                        continue
            elif is_end:
                raise ValueError(f"is not JSON: the list has no end, after item {count}")
            # Double the buffer each time, so that a large item is not parsed too often.
            more = file.read(max(_READ_BYTES, len(text) - place))
            is_end = not more
            text, place = text[place:] + more, 0


def elements_of(text: str) -> Iterator[tuple[str, Any]]:
    """Yield the text and the value of each element of a JSON list.

    Args:
        text: a valid list.
    """
    place = _skip(text, text.index("[") + 1)
    while text[place] != "]":
        value, end = _DECODER.raw_decode(text, place)
        yield text[place:end], value
        place = _skip(text, end, also=",")


def members_of(text: str) -> Iterator[tuple[str, str, Any]]:
    """Yield the key, the text and the value of each member of a JSON object.

    Args:
        text: a valid object.
    """
    place = _skip(text, text.index("{") + 1)
    while text[place] != "}":
        key, end = _DECODER.raw_decode(text, place)
        start = _skip(text, end, also=":")
        value, end = _DECODER.raw_decode(text, start)
        yield key, text[start:end], value
        place = _skip(text, end, also=",")


def _skip(text: str, place: int, also: str = "") -> int:
    """Return the next place that is neither white space nor a separator."""
    skipped = _SPACE + also
    while place < len(text) and text[place] in skipped:
        place += 1
    return place
