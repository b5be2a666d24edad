"""One or two servers of a database. Their models are the test's model server."""

from collections.abc import AsyncIterator, Iterator

import pytest

from sessiond_server.providers.settings import ProviderSettings
from sessiond_server.settings import Settings

from ..support.model_server import ModelServer
from ..support.wire import Wire
from ..turns.calls import connected


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def settings(settings: Settings, models: ModelServer) -> Settings:
    """Settings with the models fake-*. Leases of turns do not run out."""
    provider = ProviderSettings(
        type="openai", base_url=models.openai_url, models=("fake-*",), retries=0
    )
    return settings.model_copy(
        update={"providers": {"fake": provider}, "default_model": "fake-1", "turn_lease_s": 600}
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
