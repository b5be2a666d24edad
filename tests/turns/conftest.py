"""Servers whose models are the test's model server."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from sessiond_server.providers.settings import ProviderSettings
from sessiond_server.settings import Settings
from sessiond_server.turns.store.leases import TurnLeaseStore

from ..support.model_server import ModelServer
from ..support.wire import Wire
from .calls import connected


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def settings(settings: Settings, models: ModelServer) -> Settings:
    """Settings with the models fake-* of OpenAI's format and other-* of Anthropic's.

    Leases are so long that turns are recovered only at a server's start.
    """
    own = {"silence_timeout_s": 30, "retries": 0}
    providers = {
        "fake": ProviderSettings(
            type="openai", base_url=models.openai_url, models=("fake-*",), **own
        ),
        "other": ProviderSettings(
            type="anthropic", base_url=models.url, api_key_env="", models=("other-*",), **own
        ),
    }
    return settings.model_copy(
        update={"providers": providers, "default_model": "fake-1", "turn_lease_s": 600}
    )


@pytest.fixture
async def one(wire: Wire) -> Wire:
    """A server with a session "one"."""
    await wire.create("one")
    return wire


@pytest.fixture
async def other(settings: Settings, database_url: str) -> AsyncIterator[Wire]:
    """Another server of the same database."""
    async with connected(settings, database_url) as wire:
        yield wire


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The results of all checks for orphaned turns."""
    found, orphans = [], TurnLeaseStore.orphans

    async def kept(*args: Any, **options: Any) -> Any:
        found.append(await orphans(*args, **options))
        return found[-1]

    monkeypatch.setattr(TurnLeaseStore, "orphans", kept)
    return found
