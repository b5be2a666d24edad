"""The health service: SERVING while the database responds, even if it is busy."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
)

from sessiond_server import health as health_module
from sessiond_server.core.supervision import supervise
from sessiond_server.db.pool import Database
from sessiond_server.health import HealthMonitor
from sessiond_server.server import serving
from sessiond_server.settings import Settings

from ..support.outages import set_read_only, terminate_all
from ..support.waiting import PATIENCE_S
from ..support.wire import Wire, error_of

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
SERVICE = "sessiond.v1.SessionService"


class Statuses(health.aio.HealthServicer):
    """A health servicer whose statuses can be awaited."""

    def __init__(self) -> None:
        super().__init__()
        self.published: asyncio.Queue[HealthCheckResponse.ServingStatus] = asyncio.Queue()

    async def set(self, service: str, status: HealthCheckResponse.ServingStatus) -> None:
        await super().set(service, status)
        if service == SERVICE:
            self.published.put_nowait(status)

    async def next(self) -> HealthCheckResponse.ServingStatus:
        async with asyncio.timeout(PATIENCE_S):
            return await self.published.get()


@pytest.fixture(autouse=True)
def short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "PROBE_INTERVAL_S", 0.01)


@asynccontextmanager
async def monitored(database: Database) -> AsyncIterator[Statuses]:
    statuses = Statuses()
    task = asyncio.create_task(supervise("health", HealthMonitor(database, statuses).run))
    try:
        yield statuses
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_server_whose_connections_are_all_busy_is_serving(database_url: str) -> None:
    database = Database(database_url, size=1)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(database.close)
        await database.open()
        await stack.enter_async_context(database.connection())
        async with monitored(database) as statuses:
            assert await statuses.next() == SERVING


async def test_a_server_whose_tables_are_locked_is_serving(
    settings: Settings, database_url: str
) -> None:
    """The calls wait or are refused, but the probes still succeed."""
    settings = settings.model_copy(update={"pool_size": 2})
    async with (
        serving(settings, database_url) as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        wire = Wire(channel)
        await wire.create("one")
        with psycopg.connect(database_url) as blocker:
            blocker.execute("LOCK TABLE sessions, messages")
            calls = [asyncio.ensure_future(error_of(wire.store("one", "x"))) for _ in range(8)]
            async with monitored(running.database) as statuses:
                assert await statuses.next() == SERVING
                ends = await asyncio.gather(*calls)
                assert statuses.published.empty()
            assert {end.reason for end in ends} == {"OVERLOADED"}
            assert await status_of(channel, "") == SERVING
        assert (await wire.store("one", "x")).last_seq == 1


async def status_of(channel: grpc.aio.Channel, service: str) -> Any:
    request = HealthCheckRequest(service=service)
    return (await health_pb2_grpc.HealthStub(channel).Check(request)).status


async def test_liveness_is_serving_while_the_database_is_away_and_during_a_drain(
    settings: Settings,
) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    async with (
        serving(settings, nowhere) as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch(HealthCheckRequest())
        async for response in watch:
            if response.status == NOT_SERVING:
                break
        assert await status_of(channel, "liveness") == SERVING
        await running.health.enter_graceful_shutdown()
        assert await status_of(channel, "") == NOT_SERVING
        assert await status_of(channel, "liveness") == SERVING
        watch = health_pb2_grpc.HealthStub(channel).Watch(HealthCheckRequest(service="liveness"))
        assert (await watch.read()).status == SERVING


async def test_a_lost_connection_is_reported_and_so_is_the_return(database_url: str) -> None:
    async with monitored(Database(database_url)) as statuses:
        assert await statuses.next() == SERVING
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name = 'sessiond-health'"
            )
        assert await statuses.next() == NOT_SERVING
        assert await statuses.next() == SERVING


async def test_a_database_that_is_away_is_reported() -> None:
    async with monitored(Database("postgresql://nobody@127.0.0.1:1/none")) as statuses:
        assert await statuses.next() == NOT_SERVING


async def test_a_database_that_is_read_only_is_reported(database_url: str) -> None:
    async with monitored(Database(database_url)) as statuses:
        assert await statuses.next() == SERVING
        set_read_only(database_url, "on")
        terminate_all(database_url)
        assert await statuses.next() == NOT_SERVING
        set_read_only(database_url, "off")
        assert await statuses.next() == SERVING


async def test_a_connection_that_became_read_only_is_reported_and_renews_the_pool(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(database_url)
    connect = database.connect_alone

    async def demoted_once(application_name: str) -> object:
        monkeypatch.setattr(database, "connect_alone", connect)
        connection = await connect(application_name)
        await connection.execute("SET default_transaction_read_only = on")
        return connection

    monkeypatch.setattr(database, "connect_alone", demoted_once)
    await database.open()
    before = await process_of(database)
    async with monitored(database) as statuses:
        assert await statuses.next() == NOT_SERVING
        assert await process_of(database) != before
        assert await statuses.next() == SERVING
    await database.close()


async def process_of(database: Database) -> int:
    async with database.connection() as connection:
        return connection.info.backend_pid


@pytest.mark.parametrize("error", [psycopg.InternalError, ZeroDivisionError])
async def test_the_status_follows_the_database_after_any_error(
    database_url: str, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    database = Database(database_url)
    connect = database.connect_alone

    async def failing_once(application_name: str) -> object:
        monkeypatch.setattr(database, "connect_alone", connect)
        raise error

    monkeypatch.setattr(database, "connect_alone", failing_once)
    async with monitored(database) as statuses:
        seen = [await statuses.next()]
        while seen[-1] != SERVING:
            seen.append(await statuses.next())
    assert seen[-1] == SERVING


async def test_the_server_registers_no_methods(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each registered method has a task of gRPC, and each call touches all of these tasks."""
    registered: list[object] = []
    monkeypatch.setattr(
        grpc.aio.Server,
        "add_registered_method_handlers",
        lambda _self, service, _handlers: registered.append(service),
    )
    settings = Settings(listen="127.0.0.1:0", data_dir=tmp_path)
    async with (
        serving(settings, database_url) as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        found = await stub.Check(HealthCheckRequest(service="liveness"))
        assert found.status == SERVING
    assert registered == []


async def test_all_services_are_listed_with_their_statuses() -> None:
    servicer = health_module.HealthServicer()
    await servicer.set(SERVICE, NOT_SERVING)
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        listed = await health_pb2_grpc.HealthStub(channel).List(HealthListRequest())
    await server.stop(grace=0)
    found = {service: health.status for service, health in listed.statuses.items()}
    assert found == {"": SERVING, SERVICE: NOT_SERVING, "liveness": SERVING}
