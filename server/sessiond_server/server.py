"""One server process: listens, serves until SIGTERM or SIGINT, then drains."""

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc
import structlog
from grpc_health.v1 import health, health_pb2_grpc

from sessiond_server.app import open_services
from sessiond_server.assets.store.objects import Objects
from sessiond_server.core.cancellation import cancel_all
from sessiond_server.core.memory import Memory, share_of_container
from sessiond_server.core.service_manager import notify
from sessiond_server.core.supervision import supervise
from sessiond_server.db.cursors import log_slow_statements
from sessiond_server.db.pool import Database
from sessiond_server.health import GenericOnly, HealthMonitor, HealthServicer
from sessiond_server.reloading import Reloader, loaded, on_hangup
from sessiond_server.rpc import reflection
from sessiond_server.rpc.admission import Admission
from sessiond_server.rpc.certificates import Certificate
from sessiond_server.sampling import Sampler
from sessiond_server.settings import Settings
from sessiond_server.telemetry import tracing
from sessiond_server.turns.runner import TurnRunner
from sessiond_server.watch.hub import WatchHub

# Names as in gRPC's grpc/impl/channel_arg_names.h; gRPC ignores unknown ones silently.
OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Minimum interval of a client's pings. gRPC's default of five minutes would disconnect clients
    # that keep idle connections alive.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # Limits on the number of calls that gRPC has read and the event loop has not begun. gRPC
    # cancels some calls beyond the first limit, at random, and all calls beyond the second. It
    # gives no reason, so the limits are high. Calls wait here only for milliseconds, and the server
    # then answers them or refuses them as OVERLOADED.
    ("grpc.server.max_pending_requests", 20_000),
    ("grpc.server.max_pending_requests_hard_limit", 40_000),
]

# Calls that are cut off at the end of a drain still get an answer within this time.
LAST_ANSWERS_S = 2.0

# Time after which another thread must let the event loop run. While a thread encodes a long
# history, each call waits for this time, and often several times. Python's default is 5 ms.
SWITCH_INTERVAL_S = 0.001

# Thresholds of the garbage collector: the number of new objects that starts a young collection, of
# young collections that starts a middle one, and of middle collections that starts a full one.
# Nearly all objects are freed without the collector. A thousand concurrent calls have so many
# objects that with Python's defaults (700, 10, 10), collections took a third of the time, and up to
# 0.3 s at once.
GC_THRESHOLDS = (5_000, 10, 50)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Running:
    """A running server, which listens on `port`."""

    port: int
    admission: Admission
    server: grpc.aio.Server
    health: health.aio.HealthServicer
    database: Database
    objects: Objects
    watching: WatchHub
    runner: TurnRunner
    sampler: Sampler
    reloader: Reloader


async def run(
    settings: Settings,
    database_url: str,
    *,
    on_ready: Callable[[int], None] | None = None,
    load: Callable[[], Settings] | None = None,
) -> None:
    """Serve in this process until SIGTERM or SIGINT, then drain.

    Args:
        settings: the server's settings.
        database_url: a database with the newest schema.
        on_ready: called with the port as soon as the server is ready.
        load: loads the settings again at SIGHUP. None = SIGHUP is not handled.

    Raises:
        OSError: if the server cannot listen on the address.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        stack.enter_context(tracing.configured())
        running = await stack.enter_async_context(serving(settings, database_url))
        # Objects created during the start are permanent. Freezing them keeps them out of full
        # collections, which would delay all calls.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)

        def reload() -> None:
            if load and (new := loaded(load, settings)):
                running.reloader.apply(new)

        if load:
            on_hangup(loop, reload, stop.set)
        if on_ready:
            on_ready(running.port)
        await stop.wait()
        notify("STOPPING=1")
        admission = running.admission
        log.info("draining", calls=admission.calls, streams=admission.streams)
        await drain(running, delay_s=settings.drain_delay_s, timeout_s=settings.drain_timeout_s)
    log.info("stopped")


@asynccontextmanager
async def serving(settings: Settings, database_url: str) -> AsyncIterator[Running]:
    """Serve for the duration of the block. At its end, stop everything that is still running.

    Yields:
        The running server.

    Raises:
        OSError: if the server cannot listen on the address.
    """
    async with AsyncExitStack() as stack:
        log_slow_statements(settings.slow_statement_ms / 1000)
        limit = settings.max_memory_bytes
        memory = Memory(share_of_container(settings.workers) if limit is None else limit)
        admission = Admission(
            settings.max_concurrent_rpcs,
            settings.max_watchers,
            memory,
            max_imports=settings.max_running_imports,
        )
        services = await stack.enter_async_context(open_services(settings, database_url, admission))
        # Only the workers of one server share a port. If two servers used the same port, each would
        # receive some of the calls unnoticed.
        server = grpc.aio.server(
            options=[
                *OPTIONS,
                ("grpc.max_receive_message_length", settings.max_request_bytes),
                ("grpc.so_reuseport", int(settings.workers > 1)),
                ("grpc.max_allowed_incoming_connections", settings.max_connections),
                ("grpc.max_concurrent_streams", settings.max_connection_streams),
                # If the two sizes differed, gRPC would refuse some calls with sizes in between.
                ("grpc.max_metadata_size", settings.max_metadata_bytes),
                ("grpc.absolute_max_metadata_size", settings.max_metadata_bytes),
                *_age_options(settings),
            ]
        )
        stack.push_async_callback(server.stop, grace=0)
        server.add_generic_rpc_handlers(services.handlers)
        health_servicer = HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health_servicer, GenericOnly(server))
        if settings.reflection:
            server.add_generic_rpc_handlers(reflection.handlers())
        certificate = (
            Certificate(settings.tls_cert, settings.tls_key)
            if settings.tls_cert and settings.tls_key
            else None
        )
        port = _bind(server, settings, certificate)
        sampler = Sampler(settings, services, admission, health_servicer)
        loops = {
            **services.loops,
            **sampler.loops(),
            "health": HealthMonitor(services.database, health_servicer).run,
        }
        background = [
            asyncio.create_task(supervise(name, loop), name=name) for name, loop in loops.items()
        ]
        stack.push_async_callback(cancel_all, background)
        await server.start()
        yield Running(
            port,
            admission,
            server,
            health_servicer,
            services.database,
            services.objects,
            services.watching,
            services.runner,
            sampler,
            Reloader(services.models, certificate),
        )


async def drain(running: Running, *, delay_s: float, timeout_s: float) -> None:
    """Finish the calls that have arrived, send clients to other servers, and end all streams.

    When gRPC shuts down, it cancels the calls that it has read but not handed over yet. So the
    calls that arrive last are held until no more arrive. They run only after gRPC has told the
    clients, by GOAWAY, to use another connection.

    Args:
        running: the server to drain.
        delay_s: how long to report NOT_SERVING before refusing connections, for load balancers.
            Unit: seconds.
        timeout_s: how long calls and turns in progress may take. Calls that take longer end with
            SERVER_DRAINING. Unit: seconds.
    """
    admission = running.admission
    await running.health.enter_graceful_shutdown()
    await asyncio.sleep(delay_s)
    with admission.holding():
        await admission.wait_until_quiet()
        stopping = asyncio.create_task(running.server.stop(grace=timeout_s + LAST_ANSWERS_S))
        # The first step of stop() sends GOAWAY, before any held call can be answered.
        await asyncio.sleep(0)
    admission.is_draining = True
    running.watching.wake_all()
    # The turns continue without their streams. Clients join the turns again at another server.
    turns = asyncio.create_task(running.runner.drain(timeout_s))
    await asyncio.wait([stopping], timeout=timeout_s)
    admission.interrupt_all()
    await asyncio.gather(stopping, turns)


def _age_options(settings: Settings) -> list[tuple[str, int]]:
    if not settings.max_connection_age_s:
        return []
    return [
        ("grpc.max_connection_age_ms", round(settings.max_connection_age_s * 1000)),
        ("grpc.max_connection_age_grace_ms", round(settings.max_connection_grace_s * 1000)),
    ]


def _bind(server: grpc.aio.Server, settings: Settings, certificate: Certificate | None) -> int:
    try:
        if certificate:
            port = server.add_secure_port(settings.listen, certificate.credentials())
        else:
            port = server.add_insecure_port(settings.listen)
    except RuntimeError as e:
        raise OSError(f"cannot listen on {settings.listen}: {e}") from e
    if not port and not settings.listen.startswith("unix:"):
        raise OSError(f"cannot listen on {settings.listen}")
    return port
