"""The pages of the documentation, and the fenced blocks in them."""

import re
import shlex
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "docs/reference/generated"
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if GENERATED not in path.parents),
]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

_BLOCK = re.compile(
    r"(?P<mark><!-- not run: [^\n]*-->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block. Attribute line: the line of its fence."""

    page: Path
    language: str
    text: str
    line: int
    is_run: bool
    """False if the page has `<!-- not run: WHY -->` before the block."""

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def name_of(page: Path) -> str:
    """The page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            match["language"],
            match["text"],
            text.count("\n", 0, match.start("language")) + 1,
            match["mark"] is None,
        )
        for match in _BLOCK.finditer(text)
    ]


def grpcurl_blocks(page: Path) -> list[tuple[Block, Block | None]]:
    """Each grpcurl command of a page, and the output shown beneath it."""
    found: list[Block | None] = [*blocks(page), None]
    return [
        (block, after if after and _is_output(block, after) else None)
        for block, after in pairwise(found)
        if block and block.language == "sh" and block.text.startswith("grpcurl")
    ]


def _is_output(block: Block, after: Block) -> bool:
    """Whether the second block stands right beneath the first, with at most one line between."""
    end = block.line + block.text.count("\n") + 1
    return after.language in ("json", "text") and after.line <= end + 2


def arguments(block: Block) -> list[str]:
    """The words of a command."""
    return shlex.split(block.text.replace("\\\n", " "))


WITH_PROGRAMS = [
    page for page in PAGES if any(b.language in ("python", "console") for b in blocks(page))
]
WITH_GRPCURL = [page for page in PAGES if grpcurl_blocks(page)]
