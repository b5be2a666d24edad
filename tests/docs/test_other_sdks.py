"""Programs for other SDKs run on sessiond with nothing but their imports changed.

Each page in programs/ is typed into one interpreter, and each program prints the text below it. A
line `---` starts another interpreter, at another server with the same database.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Typed, with_imports_changed

PAGES = sorted((Path(__file__).parent / "programs").glob("*.md"))

_PROGRAM = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_programs_run_with_their_imports_changed(
    page: Path, start: Callable[[], str], typed: Typed
) -> None:
    for part in page.read_text(encoding="utf-8").split("\n---\n"):
        programs, shown = zip(*_PROGRAM.findall(part), strict=True)
        assert typed(start(), *programs) == [text.splitlines() for text in shown]


def test_nothing_but_imports_is_changed() -> None:
    program = "from acontext.errors import APIError\n  from copilot import CopilotClient as C\n"
    assert with_imports_changed(program + "copilot = 'from copilot'\n") == (
        "from sessiond.compat.acontext.errors import APIError\n"
        "  from sessiond.compat.copilot import CopilotClient as C\n"
        "copilot = 'from copilot'\n"
    )
