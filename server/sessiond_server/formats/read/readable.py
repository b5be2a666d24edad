"""The readable text of an item that exists in one format only."""

from collections.abc import Iterator
from typing import Any

from sessiond_server.formats.files import is_content

# Values that mean nothing to another model, or that are not text.
_UNREADABLE = {
    "type",
    "id",
    "status",
    "call_id",
    "tool_use_id",
    "item_id",
    "encrypted_content",
    "encrypted_index",
    "encrypted_stdout",
    "signature",
    "thoughtSignature",
    "thought_signature",
    "data",
    "cache_control",
    "container_id",
    "file_id",
    "image_url",
    "format",
}
MAX_CHARACTERS = 100_000
CUT = f"[… the rest is not sent: it is longer than {MAX_CHARACTERS:,} characters]"


def readable(value: Any) -> str:
    """Return the texts of an item, each with its key: "query: weather". "" = none.

    A text of more than MAX_CHARACTERS is cut, and ends with CUT.
    """
    lines: list[str] = []
    left = MAX_CHARACTERS
    for line in _lines(value, ""):
        lines.append(line[:left])
        left -= len(line) + 1
        if left < 0:
            return "\n".join([*lines, CUT])
    return "\n".join(lines)


def _lines(value: Any, key: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            if name not in _UNREADABLE:
                yield from _lines(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _lines(item, key)
    elif value not in (None, "") and not (isinstance(value, str) and is_content(value)):
        yield str(value) if key in ("", "text", "content") else f"{key}: {value}"
