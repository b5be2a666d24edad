"""The documentation refers only to existing links, files and tests."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from .pages import GENERATED, PAGES, ROOT, name_of

# The directories that a path on a page may be relative to.
ROOMS = (
    ROOT / "server/sessiond_server",
    ROOT / "client/sessiond",
    ROOT / "client/typescript",
    ROOT / "protos",
    ROOT,
)
# Names of files that every feature has. A page uses them without naming a feature.
OF_EVERY_FEATURE = {"service.py", "store.py", "store/"}
# Directories that the described commands create.
MADE = ("docs/reference/generated", "build/")
GENERATED_NOTE = "`make docs`"

_PATH = re.compile(r"`((?:[\w.-]+/)*(?:[\w-]+\.(?:py|proto|toml)|[\w.-]+/))((?:::\w+)*)`")
_CONTINUED = re.compile(r"`((?:::\w+)+)`")
_WHOLE_PATH = re.compile(
    r"`((?:benchmarks|client|docs|examples|protos|scripts|server|tests)/[\w/.-]*)[`:]"
)
_METHOD = re.compile(r"`([A-Z]\w+)\.([a-z_]\w+)`")


def _found(name: str) -> list[Path]:
    """Return the files or directories that a page may mean by a path."""
    return [room / name for room in ROOMS if (room / name).exists()]


@cache
def _defined(file: Path) -> frozenset[str]:
    """Return what a file of Python defines, as NAME and CLASS::NAME."""
    names: set[str] = set()

    def collect(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            match node:
                case ast.ClassDef(name=name, body=inner):
                    names.add(prefix + name)
                    collect(inner, f"{prefix}{name}::")
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    names.add(prefix + name)
                case (
                    ast.Assign(targets=[ast.Name(id=name)])
                    | ast.AnnAssign(target=ast.Name(id=name))
                ):
                    names.add(prefix + name)

    collect(ast.parse(file.read_text(encoding="utf-8")).body, "")
    return frozenset(names)


@cache
def _methods() -> frozenset[str]:
    """Return all CLASS::METHOD of the server, the client and the tests."""
    return frozenset(
        name
        for room in ("server", "client", "tests")
        for file in (ROOT / room).rglob("*.py")
        for name in _defined(file)
        if "::" in name
    )


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if "://" in link or GENERATED in (page.parent / link).resolve().parents:
            continue  # `make docs` checks the generated pages
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_paths_that_are_named_lead_to_one_place(page: Path) -> None:
    """A path starts at the repository, at the server's package or at the client's.

    `file.py::NAME` names something that the file defines, and a bare `::NAME` continues the file
    before it in the same line.
    """
    for line in page.read_text(encoding="utf-8").splitlines():
        file = ROOT
        for match in re.finditer(f"{_PATH.pattern}|{_CONTINUED.pattern}", line):
            name, of_file, continued = match.groups()
            if name:
                if name in OF_EVERY_FEATURE or "NNNN" in name or name.startswith(MADE):
                    continue
                found = _found(name)
                assert len(found) == 1 or (found and name.endswith("/")), f"{name}: {found}"
                file = found[0]
            if names := (of_file or continued or "").removeprefix("::"):
                assert names in _defined(file), f"{file.name}::{names}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_paths_from_the_repository_exist(page: Path) -> None:
    """Paths of directories without a slash at their end must exist as well."""
    for name in _WHOLE_PATH.findall(page.read_text(encoding="utf-8")):
        assert name.startswith(MADE) or (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_methods_that_are_named_exist(page: Path) -> None:
    for name, method in _METHOD.findall(page.read_text(encoding="utf-8")):
        if any(known.startswith(f"{name}::") for known in _methods()):
            assert f"{name}::{method}" in _methods()


def test_methods_of_the_architecture_are_found() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    assert {f"{name}::{method}" for name, method in _METHOD.findall(text)} <= _methods()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_first_link_to_a_generated_page_says_what_makes_it(page: Path) -> None:
    """In a clone, links to generated pages are dead until `make docs` has run."""
    text = page.read_text(encoding="utf-8")
    for paragraph in text.split("\n\n"):
        if "](" in paragraph and re.search(r"\]\([^)]*reference/generated/", paragraph):
            assert GENERATED_NOTE in paragraph
            break


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
