"""What the documentation points at is there: links, files, tests."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Where a page may mean a file by its path from.
ROOMS = (
    ROOT,
    ROOT / "server/sessiond_server",
    ROOT / "tests",
    ROOT / "protos/sessiond/v1",
    ROOT / "client/sessiond",
)
TESTS: dict[str, str] = {}
for _path in sorted((ROOT / "tests").rglob("test_*.py")):
    TESTS[_path.name] = TESTS.get(_path.name, "") + _path.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_are_named_exist(page: Path) -> None:
    for name in re.findall(
        r"`([\w/.]+\.(?:py|proto|toml))(?=[`:])", page.read_text(encoding="utf-8")
    ):
        if "NNNN" not in name and name not in TESTS:
            assert any((room / name).is_file() for room in ROOMS), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tests_that_are_named_exist(page: Path) -> None:
    for row in page.read_text(encoding="utf-8").splitlines():
        file = ""
        for name, test in re.findall(
            r"`(?:tests/[\w/]+/)?(test_\w+\.py)?::(?:\w+::)?(test_\w+)`", row
        ):
            file = name or file
            assert f"def {test}(" in TESTS[file], f"{file}::{test}"


def test_decisions_are_numbered() -> None:
    decisions = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert [path.name[:3] for path in decisions] == [
        f"{i:03}" for i in range(1, len(decisions) + 1)
    ]
    for path in decisions:
        assert path.read_text(encoding="utf-8").startswith(f"# {path.name[:3]}: ")
