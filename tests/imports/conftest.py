"""A client of the test's server."""

from collections.abc import AsyncIterator

import pytest

from sessiond import (
    AsyncClient,
)
from sessiond_server.server import Running


@pytest.fixture
async def client(server: Running) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(f"127.0.0.1:{server.port}") as opened:
        yield opened
