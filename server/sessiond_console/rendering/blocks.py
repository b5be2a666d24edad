"""Blocks: the format-independent pieces of a message, which readers create and templates show."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from sessiond_console.rendering.text import shortened

BlockKind = Literal["text", "reasoning", "call", "result", "file", "refusal", "citation", "other"]

MAX_JSON_CHARACTERS = 256 * 1024
"""JSON is indented below this size only; indenting more would keep the browser busy."""


@dataclass(slots=True)
class File:
    """A file in a message."""

    kind: str
    """"image", "audio" or "file"."""
    media_type: str = ""
    name: str = ""
    asset_id: str = ""
    """The asset that holds the content. Empty = it is elsewhere."""
    uri: str = ""
    """Where the content is, if it is neither an asset nor inline."""
    data: str = ""
    """The content as base64, if it is inline. messages.shown() replaces it by a short mark."""
    index: int = 0
    """The file's place among the files of its message, from 0."""

    @property
    def is_inline(self) -> bool:
        """Whether the message itself holds the content."""
        return bool(self.data)


@dataclass(slots=True)
class Block:
    """One piece of a message."""

    kind: BlockKind
    text: str = ""
    is_markdown: bool = False
    """Whether the text is Markdown. Texts of people and models are; the output of tools is not."""
    name: str = ""
    """The tool of a call or result, or the type of a block of another kind."""
    call_id: str = ""
    is_error: bool = False
    uri: str = ""
    """Where a citation points to."""
    file: File | None = None
    results: list["Block"] = field(default_factory=list)
    """The results of a call, folded into it."""
    parts: list["Block"] = field(default_factory=list)
    """The parts of a result that are not text."""
    seq: int = 0
    """The seq of the message that a folded result comes from."""
    omitted: int = 0
    """How many characters of the text are left out."""

    def cut(self, limit: int) -> None:
        """Shorten the text to at most `limit` characters, and remember how many were left out."""
        self.text, omitted = shortened(self.text, limit)
        self.omitted += omitted


def every_block(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield blocks, and the blocks inside them."""
    for block in blocks:
        yield block
        yield from every_block(block.results)
        yield from every_block(block.parts)


def text_block(value: Any, *, is_markdown: bool = True) -> list[Block]:
    """Return a block for a text; none for an empty one."""
    text = as_text(value)
    return [Block("text", text, is_markdown=is_markdown)] if text else []


def other_block(value: Any, name: str = "") -> Block:
    """Return a block that shows a value as JSON, for content that this version does not know."""
    if not name and isinstance(value, dict):
        name = as_text(value.get("type"))
    return Block("other", pretty(value), name=name or "content")


def as_text(value: Any) -> str:
    """Return a text as it is, and any other value as JSON; "" for None."""
    if isinstance(value, str):
        return value
    return "" if value is None else pretty(value)


def pretty(value: Any) -> str:
    """Return a value as indented JSON, or as compact JSON if it is large."""
    compact = _dumps(value, 0)
    if len(compact) > MAX_JSON_CHARACTERS:
        return compact
    return _dumps(value, orjson.OPT_INDENT_2)


def pretty_text(text: str) -> str:
    """Return JSON text with indentation, if it is a JSON object or list of moderate size.

    A text with a number that the JSON parser would round is returned unchanged.
    """
    if len(text) > MAX_JSON_CHARACTERS or text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return pretty(value) if _digits(_dumps(value, 0)) == _digits(text) else text


def listed(value: Any) -> list[Any]:
    """Return a list unchanged, [] for None, and any other value as a list of one item."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def get(value: Any, *names: str) -> Any:
    """Return the value of the first name that a dict has as a key; None if there is none."""
    if isinstance(value, dict):
        for name in names:
            if name in value:
                return value[name]
    return None


def _dumps(value: Any, option: int) -> str:
    try:
        return orjson.dumps(value, option=option).decode()
    except (orjson.JSONEncodeError, UnicodeError):
        return repr(value)


def _digits(text: str) -> list[str]:
    return sorted(c for c in text if c.isdigit())
