"""The health service, which reports SERVING while the database responds and can be written to."""

import asyncio

import grpc
import psycopg
import structlog
from grpc_health.v1.health import aio
from grpc_health.v1.health_pb2 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
    HealthListResponse,
)
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from sessiond_server.db.connections import check_writable, closing
from sessiond_server.db.pool import Database
from sessiond_server.rpc.services import SERVICES

# The name of a service for liveness probes. It is SERVING as long as the process answers, even
# while the database is unavailable or the server is draining, because a restart would not help.
LIVENESS = "liveness"

PROBE_INTERVAL_S = 2.0
PROBE_TIMEOUT_S = 4.0

log = structlog.get_logger(__name__)


class HealthServicer(aio.HealthServicer):  # type: ignore[misc]
    """The health service of gRPC, with the service name LIVENESS."""

    async def is_serving(self) -> bool:
        """Return whether the server as a whole is reported as SERVING."""
        found = await super().Check(HealthCheckRequest(), None)
        return bool(found.status == HealthCheckResponse.SERVING)

    async def Check(  # noqa: N802 - named as in the protos
        self,
        request: HealthCheckRequest,
        context: "grpc.aio.ServicerContext[HealthCheckRequest, HealthCheckResponse]",
    ) -> HealthCheckResponse:
        """Return the status of a service."""
        if request.service == LIVENESS:
            return HealthCheckResponse(status=HealthCheckResponse.SERVING)
        return await super().Check(request, context)

    async def Watch(  # noqa: N802
        self,
        request: HealthCheckRequest,
        context: "grpc.aio.ServicerContext[HealthCheckRequest, HealthCheckResponse]",
    ) -> None:
        """Send the status of a service, and each change."""
        if request.service == LIVENESS:
            await context.write(HealthCheckResponse(status=HealthCheckResponse.SERVING))
            await asyncio.get_running_loop().create_future()
        await super().Watch(request, context)

    async def List(  # noqa: N802
        self,
        request: HealthListRequest,
        context: "grpc.aio.ServicerContext[HealthListRequest, HealthListResponse]",
    ) -> HealthListResponse:
        """Return the status of every service. grpcio's own servicer does not have this method."""
        statuses = self._server_status | {LIVENESS: HealthCheckResponse.SERVING}
        return HealthListResponse(
            statuses={
                service: HealthCheckResponse(status=status) for service, status in statuses.items()
            }
        )


class GenericOnly:
    """Adds the generic handlers of generated code to a server, but not its registered methods.

    For each registered method, the asyncio server of gRPC has a task that waits for the method's
    next call. At each call of any method, the server adds a callback to all of these tasks, and
    removes it again. For the generic handlers, there is only one such task.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        """Do nothing. The generic handlers serve the same methods."""


class HealthMonitor:
    """Probes the database and publishes the result for every service.

    The probe uses a separate connection. If it used the pool, a server whose connections are all
    busy would look as if it had no database. A load balancer would then remove it, and thereby
    increase the load on the other servers.
    """

    def __init__(self, database: Database, servicer: aio.HealthServicer) -> None:
        self._database = database
        self._servicer = servicer
        self._status: HealthCheckResponse.ServingStatus | None = None

    async def run(self) -> None:
        """Probe until cancelled."""
        while True:
            try:
                await self._probe_until_failure()
            except (psycopg.Error, TimeoutError) as e:
                await self._publish(HealthCheckResponse.NOT_SERVING, error=repr(e))
            await asyncio.sleep(PROBE_INTERVAL_S)

    async def _probe_until_failure(self) -> None:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            connection = await self._database.connect_alone("sessiond-health")
        async with closing(connection):
            while True:
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    await self._check(connection)
                await self._publish(HealthCheckResponse.SERVING)
                await asyncio.sleep(PROBE_INTERVAL_S)

    async def _check(self, connection: AsyncConnection[TupleRow]) -> None:
        try:
            await check_writable(connection)
        except psycopg.errors.ReadOnlySqlTransaction as e:
            # Otherwise the pool would keep read-only connections until callers had failed on each.
            await self._database.renew(str(e))
            raise

    async def _publish(self, status: HealthCheckResponse.ServingStatus, error: str = "") -> None:
        if status == self._status:
            return
        name = HealthCheckResponse.ServingStatus.Name(status)
        if status != HealthCheckResponse.SERVING:
            log.warning("health_changed", status=name, error=error)
        elif self._status is not None:
            log.info("health_changed", status=name)
        self._status = status
        for service in ("", *(service.full_name for service in SERVICES)):
            await self._servicer.set(service, status)
