"""Fixtures of the tests of providers: a scripted model server."""

import os
from collections.abc import Iterator

import pytest

from ..support.model_server import ModelServer


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the API keys and URLs from the environment of the tests."""
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "ANTHROPIC_")):
            monkeypatch.delenv(name)


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server
