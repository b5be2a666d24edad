"""The programs on the page about the framework run."""

from pathlib import Path

import pytest

from tests.support.model_server import ModelServer, Reply

from ..example_pages import run_page

pytest.importorskip("strands", reason="needs the framework: `make adapters-test`")


def test_the_programs_of_the_page_run(target: str, tmp_path: Path) -> None:
    with ModelServer() as model:
        model.script(Reply("Three minutes."), Reply("Four minutes."))
        printed = [line for line in run_page("strands.md", target, model, tmp_path) if line]
        assert printed[:2] == ["Three minutes.", "Four minutes."]
        assert "Three minutes." in str(model.requests[-1].body)
