"""The pages name only existing targets of make, variables, flags and defaults."""

import re
from pathlib import Path

import pytest

from sessiond_server.settings import Settings

from .pages import PAGES, ROOT, name_of

README_LINES = 200
# Variables of clients and of the tests.
_OTHERS = ("client/sessiond/_protocol/settings.py", "tests/conftest.py")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_targets_of_make_exist(page: Path) -> None:
    named = set(
        re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    )
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert named <= set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_variables_exist(page: Path) -> None:
    named = set(re.findall(r"SESSIOND_[A-Z_]*[A-Z]", page.read_text(encoding="utf-8")))
    server = {f"SESSIOND_{name.upper()}" for name in Settings.model_fields} | {"SESSIOND_CONFIG"}
    others = {
        variable
        for path in _OTHERS
        for variable in re.findall(r"SESSIOND_[A-Z_]*[A-Z]", (ROOT / path).read_text("utf-8"))
    }
    assert named <= server | others


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_to_settings_show_the_flag_that_they_lead_to(page: Path) -> None:
    links = re.findall(r"\[`--([a-z-]+)`\]\([^)]*settings\.md#(\w+)\)", page.read_text("utf-8"))
    for flag, anchor in links:
        assert flag.replace("-", "_") == anchor
        assert anchor in Settings.model_fields


def test_the_table_of_settings_has_the_flags_variables_and_defaults() -> None:
    page = ROOT / "docs/guides/configuration.md"
    rows = re.findall(r"^\| (`--.*?) \| (`SESSIOND_.*?) \| (.*?) \|", page.read_text("utf-8"), re.M)
    assert len(rows) > 10
    for flags, variables, default in rows:
        names = [flag.replace("-", "_") for flag in re.findall(r"--([a-z-]+)", flags)]
        assert [f"SESSIOND_{name.upper()}" for name in names] == re.findall(
            r"SESSIOND_[A-Z_]+", variables
        )
        for name in names:
            declared = Settings.model_fields[name].default
            if isinstance(declared, bool) or not isinstance(declared, str | int | float):
                continue
            shown = declared if isinstance(declared, str) else f"{declared:g}"
            assert shown in default, name


def test_the_readme_is_short() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.count("\n") <= README_LINES
    assert {"run", "test", "bench", "docs"} <= set(re.findall(r"make ([a-z-]+)", readme))
