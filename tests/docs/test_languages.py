"""The pages about other languages show the code of the examples."""

from pathlib import Path

import pytest

from .pages import ROOT, blocks

GUIDES = ROOT / "docs" / "guides"
SOURCES = {
    "go": ROOT / "examples" / "go",
    "java": ROOT / "examples" / "java" / "src",
    "rust": ROOT / "examples" / "rust" / "src",
}
SUFFIXES = {"go": ".go", "java": ".java", "rust": ".rs"}


@pytest.mark.parametrize("language", SOURCES)
def test_code_on_a_page_is_that_of_the_example(language: str) -> None:
    files = sorted(SOURCES[language].glob(f"**/*{SUFFIXES[language]}"))
    source = "".join(path.read_text() for path in files)
    shown = [block.text for block in blocks(page(language)) if block.language == language]
    assert shown
    for text in shown:
        assert text in source


def page(language: str) -> Path:
    return GUIDES / f"{language}.md"
