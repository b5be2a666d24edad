"""Messages as blocks, whatever their format, and results folded into the calls they answer."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sessiond import Message
from sessiond_console.rendering import anthropic, gemini, openai, parts, programs
from sessiond_console.rendering.blocks import Block, File, every_block, other_block, text_block
from sessiond_console.rendering.files import content_of
from sessiond_console.rendering.text import MAX_TEXT_CHARACTERS, one_line

PAGE_TEXT_CHARACTERS = 1024 * 1024
"""How much text a page shows at the most; beyond it, texts are cut to SHORT_TEXT_CHARACTERS."""
SHORT_TEXT_CHARACTERS = 2048


@dataclass(slots=True)
class Shown:
    """A message as a page shows it."""

    message: Message
    blocks: list[Block]
    answers: list[int] = field(default_factory=list)
    """The seqs of the messages whose calls now show this message's results; see fold().

    If these calls are not on the page, the results stay in this message, and the list is empty.
    """

    @property
    def is_folded(self) -> bool:
        """Whether all of the message is shown at the calls that it answers."""
        return bool(self.answers) and not self.blocks


class Budget:
    """Limits how much text one page shows."""

    def __init__(self, characters: int = PAGE_TEXT_CHARACTERS) -> None:
        self._left = characters

    def spend(self, blocks: Iterable[Block]) -> None:
        """Shorten the texts of blocks to the rest of the budget."""
        for block in every_block(blocks):
            limit = max(SHORT_TEXT_CHARACTERS, min(MAX_TEXT_CHARACTERS, self._left))
            block.cut(limit)
            self._left -= len(block.text)


def blocks_of(message: Message) -> list[Block]:
    """Return the blocks of a message."""
    if message.proto.HasField("parts"):
        blocks = parts.read(message.proto.parts.parts, is_tool=message.role == "tool")
    else:
        blob = message.blob
        match message.format:
            case "anthropic":
                blocks = anthropic.read(blob)
            case "gemini":
                blocks = gemini.read(blob)
            case "openai" if isinstance(blob.get("type"), str):
                blocks = openai.read_item(blob)
            case "openai":
                blocks = openai.read_chat(blob, message.role)
            case _:
                blocks = _other(message)
    for index, file in enumerate(files_of(blocks)):
        file.index = index
    return blocks


def _other(message: Message) -> list[Block]:
    """Return the blocks of a message of another program."""
    known = programs.read(message.blob, message.format_name or "", message.role)
    if known is not None:
        # The whole message also shows the program's notes, such as times and paths.
        return [*known, other_block(message.blob, "whole message")]
    inner = message.blob.get("message")
    if isinstance(inner, dict) and "content" in inner:
        # Agents' programs, such as Claude Code, wrap a provider's message like this.
        return [*anthropic.read(inner), other_block(message.blob, "whole message")]
    name = message.format_name or "message"
    return [*text_block(message.content), other_block(message.blob, name)]


def shown(message: Message, budget: Budget) -> Shown:
    """Return a message as a page shows it, within the page's budget of text."""
    blocks = blocks_of(message)
    budget.spend(blocks)
    for file in files_of(blocks):
        # Pages link to the content; keeping it here would hold a page of files in memory.
        file.data = "inline" if file.data else ""
    return Shown(message, blocks)


def fold(page: list[Shown]) -> None:
    """Move the results of a page's messages into the calls that they answer, in place.

    Results of calls that are not on the page stay where they are.
    """
    calls: dict[str, tuple[int, Block]] = {}
    for one in page:
        rest: list[Block] = []
        for block in one.blocks:
            call = calls.get(block.call_id) if block.kind == "result" else None
            if call:
                block.seq = one.message.seq
                call[1].results.append(block)
                one.answers.append(call[0])
            else:
                rest.append(block)
            if block.kind == "call" and block.call_id:
                calls[block.call_id] = (one.message.seq, block)
        one.blocks = rest


def files_of(blocks: Iterable[Block]) -> list[File]:
    """Return the files of blocks, in order."""
    return [block.file for block in every_block(blocks) if block.file]


def inline_file(message: Message, index: int) -> tuple[File, bytes] | None:
    """Return an inline file of a message, and its content; None if there is none."""
    if message.proto.HasField("parts"):
        blobs = list(_blobs(message))
        files = files_of(blocks_of(message))
        if index < len(files) and index < len(blobs):
            return files[index], blobs[index]
        return None
    for file in files_of(blocks_of(message)):
        if file.index == index and file.is_inline:
            return file, content_of(file)
    return None


def excerpt(message: Message, limit: int = 160) -> str:
    """Return the beginning of a message's text, or the names of the tools that it calls."""
    if text := message.content:
        return one_line(text, limit)
    names = [block.name for block in blocks_of(message) if block.kind == "call"]
    return one_line(", ".join(f"{name}(…)" for name in names), limit)


def _blobs(message: Message) -> Iterator[bytes]:
    for part in message.proto.parts.parts:
        inner = part.tool_result.parts if part.WhichOneof("kind") == "tool_result" else [part]
        for one in inner:
            kind = one.WhichOneof("kind")
            if kind in ("image", "audio", "file"):
                yield getattr(one, kind).inline
