"""The programs on the page about the framework run."""

from pathlib import Path

import pytest

from tests.support.model_server import ModelServer

from ..example_pages import run_page

pytest.importorskip("pydantic_ai", reason="needs the framework: `make adapters-test`")


def test_the_programs_of_the_page_run(target: str, tmp_path: Path) -> None:
    with ModelServer() as model:
        printed = run_page("pydantic-ai.md", target, model, tmp_path)
    assert printed[2:4] == ["user-42-what-if 0", "user-42-tea 2"]
