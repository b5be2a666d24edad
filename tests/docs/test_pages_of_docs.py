"""What the documentation points at is there: links, files, tests."""

import re
from pathlib import Path

import pytest

from .pages import GENERATED, PAGES, ROOT, name_of

# The directories that a page may name a file's path from.
ROOMS = (
    ROOT,
    ROOT / "server/sessiond_server",
    ROOT / "tests",
    ROOT / "protos/sessiond/v1",
    ROOT / "client/sessiond",
)
# A name without a directory may be that of any file in these.
NAMES = {
    path.name for room in ("server", "client", "tests") for path in (ROOT / room).rglob("*.py")
}
TESTS: dict[str, str] = {}
for _path in sorted((ROOT / "tests").rglob("test_*.py")):
    TESTS[_path.name] = TESTS.get(_path.name, "") + _path.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if "://" in link or GENERATED in (page.parent / link).resolve().parents:
            continue  # `make docs` checks the generated pages
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_are_named_exist(page: Path) -> None:
    for name in re.findall(
        r"`([\w/.]+\.(?:py|proto|toml))(?=[`:])", page.read_text(encoding="utf-8")
    ):
        if "NNNN" not in name and name not in NAMES:
            assert any((room / name).is_file() for room in ROOMS), name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tests_that_are_named_exist(page: Path) -> None:
    for row in page.read_text(encoding="utf-8").splitlines():
        file = ""
        for name, test in re.findall(
            r"`(?:tests/[\w/]+/)?(test_\w+\.py)?::(?:\w+::)?(test_\w+)`", row
        ):
            file = name or file
            assert f"def {test}(" in TESTS[file], f"{file}::{test}"


def test_decisions_are_numbered_and_listed() -> None:
    decisions = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    assert [path.name[:3] for path in decisions] == [
        f"{i:03}" for i in range(1, len(decisions) + 1)
    ]
    index = (ROOT / "docs/decisions/index.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[(\d{3})\]\((.*?)\) \| (.*?) \| (.*?) \| (.*?) \|$", index, re.M)
    for path, (number, file, title, status, date) in zip(decisions, listed, strict=True):
        assert path.name == file
        assert path.read_text(encoding="utf-8").startswith(
            f"# {number}: {title}\n\nStatus: {status}<br>\nDate: {date}\n"
        )
