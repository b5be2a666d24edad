"""Markdown of the generated pages."""

import re


def escaped(text: str) -> str:
    """Escape Markdown in prose, except between backquotes."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(
        piece
        if piece.startswith("`")
        else re.sub(r"([<>*|\\\[\]])|(?<![A-Za-z0-9])_", r"\\\g<0>", piece)
        for piece in pieces
    )


def cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", text)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
