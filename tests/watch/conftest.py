"""A second server of the test's database, and notifications between the two."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from sessiond_server.server import Running, serving
from sessiond_server.settings import Settings
from sessiond_server.watch.store import APPLICATION_NAME

from ..support.waiting import until_async
from ..support.wire import Wire

LISTENERS = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s"


@pytest.fixture
async def elsewhere(settings: Settings, database_url: str) -> AsyncIterator[Running]:
    """Run another server on the same database."""
    async with serving(settings, database_url) as running:
        yield running


@pytest.fixture
async def other_wire(elsewhere: Running) -> AsyncIterator[Wire]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{elsewhere.port}") as channel:
        yield Wire(channel)


@pytest.fixture
async def both_listen(elsewhere: Running, server: Running, query: Callable[..., Any]) -> None:
    """Wait until both servers receive notifications."""
    statement = f"SELECT count(*) {LISTENERS} AND state = 'idle' AND query LIKE 'LISTEN%%'"
    await until_async(lambda: query(statement, [APPLICATION_NAME]) == [(2,)], "both servers listen")


@pytest.fixture
def no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the poll, so that events arrive only by notifications. Request it before `server`."""
    monkeypatch.setattr("sessiond_server.watch.hub.POLL_S", 3600.0)
