"""The programs on the page about the SDK run."""

from pathlib import Path

import pytest

from tests.support.model_server import ModelServer, Reply

from .. import agents
from ..example_pages import run_page

pytest.importorskip("agents", reason="needs the SDK: `make adapters-test`")

model = pytest.fixture(agents.model_server)


def test_the_programs_of_the_page_run(target: str, model: ModelServer, tmp_path: Path) -> None:
    model.script(Reply(text="Three minutes."), Reply(text="Four minutes."))
    printed = run_page("openai-agents.md", target, model, tmp_path)
    assert printed[:2] == ["Three minutes.", "Four minutes."]
    assert "Three minutes." in str(model.requests[-1].body)
