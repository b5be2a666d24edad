"""Fixtures of the tests of providers: a scripted model server."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from sessiond_server.providers import retries

from ..support.model_server import ModelServer
from .made import CLASSES, Made


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


@pytest.fixture(params=[*CLASSES])
async def make(
    request: pytest.FixtureRequest, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Made]:
    monkeypatch.setattr(retries, "BACKOFF_S", 0.001)
    made = Made(request.param, model_server)
    yield made
    for provider in made.made:
        await provider.close()
