"""One server process: puts the rooms together, serves until it is told to stop, then drains."""

import asyncio
import gc
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from sessiond.v1 import (
    admin_service_pb2,
    asset_service_pb2,
    bookmark_service_pb2,
    conversation_service_pb2,
    processing_service_pb2,
    session_service_pb2,
    task_service_pb2,
)
from sessiond_server.assets.service import Assets
from sessiond_server.assets.store.assets import AssetStore
from sessiond_server.assets.store.objects import Objects
from sessiond_server.assets.sweeper import Sweeper
from sessiond_server.bookmarks.service import Bookmarks
from sessiond_server.bookmarks.store import BookmarkStore
from sessiond_server.copies.flattening import Flattener
from sessiond_server.copies.service import Copies
from sessiond_server.copies.store.copies import CopyStore
from sessiond_server.copies.store.flattening import FlatteningStore
from sessiond_server.core.cancellation import cancel_all
from sessiond_server.core.limits import Limits
from sessiond_server.db.pool import Database, DatabaseUnavailable, PoolExhausted
from sessiond_server.imports.service import SessionImports
from sessiond_server.imports.store import SessionImportStore
from sessiond_server.messages.append import Appends
from sessiond_server.messages.batch_append import BatchAppender
from sessiond_server.messages.history import History
from sessiond_server.messages.store.append import AppendStore
from sessiond_server.messages.store.batch_append import BatchAppendStore
from sessiond_server.messages.store.history import HistoryStore
from sessiond_server.messages.token_counts import tokenizer
from sessiond_server.projects.authentication import Authenticator
from sessiond_server.projects.service import Keys
from sessiond_server.projects.store import KeyStore
from sessiond_server.providers.routing import Models
from sessiond_server.queues.service import Processing
from sessiond_server.queues.store import ProcessingStore
from sessiond_server.retention.purger import Purger
from sessiond_server.retention.store import PurgeStore
from sessiond_server.rpc.admin_service import AdminServicer
from sessiond_server.rpc.asset_service import AssetServicer
from sessiond_server.rpc.bookmark_service import BookmarkServicer
from sessiond_server.rpc.conversation_service import ConversationServicer
from sessiond_server.rpc.handlers import Admission, Calls, Servicer
from sessiond_server.rpc.processing_service import ProcessingServicer
from sessiond_server.rpc.session_service import SessionServicer
from sessiond_server.rpc.task_service import TaskServicer
from sessiond_server.sessions.service import Sessions
from sessiond_server.sessions.store.sessions import SessionStore
from sessiond_server.settings import Settings
from sessiond_server.tasks.service import Tasks
from sessiond_server.tasks.store import TaskStore
from sessiond_server.turns.leases import TurnLeases
from sessiond_server.turns.runner import Lease, TurnRunner
from sessiond_server.turns.service import Turns
from sessiond_server.turns.store import TurnStore
from sessiond_server.turns.streams import TurnStreams
from sessiond_server.watch.hub import Watching
from sessiond_server.watch.store import WatchStore

SERVICES = (
    session_service_pb2.DESCRIPTOR.services_by_name["SessionService"],
    task_service_pb2.DESCRIPTOR.services_by_name["TaskService"],
    bookmark_service_pb2.DESCRIPTOR.services_by_name["BookmarkService"],
    processing_service_pb2.DESCRIPTOR.services_by_name["ProcessingService"],
    asset_service_pb2.DESCRIPTOR.services_by_name["AssetService"],
    conversation_service_pb2.DESCRIPTOR.services_by_name["ConversationService"],
    admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"],
)
HEALTH_CHECK_INTERVAL_S = 2.0

# Larger than the largest batch that is allowed, so that one above it is refused by us, with a reason, and not by gRPC without.
MAX_RECEIVE_BYTES = 32 * 1024 * 1024

# Names as in gRPC's own grpc/impl/channel_arg_names.h: an unknown one is ignored without a word.
OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_concurrent_streams", 1000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Clients may ping as often as this; the default of five minutes would cut those that keep idle connections alive.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Running:
    """A server that serves on `port`. `load` says what it has to do."""

    port: int
    load: Admission
    server: grpc.aio.Server
    health: health.aio.HealthServicer
    database: Database
    objects: Objects
    watching: Watching
    runner: TurnRunner


async def run(
    settings: Settings, database_url: str, *, on_ready: Callable[[int], None] | None = None
) -> None:
    """Serve in this process until SIGTERM or SIGINT, drain, return. on_ready is told the port.

    Raises: OSError where the address cannot be listened on.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(settings, database_url) as running:
        # What was made for the start is there for good; a full collection need not walk over it, with all calls waiting.
        gc.collect()
        gc.freeze()
        if on_ready:
            on_ready(running.port)
        await stop.wait()
        log.info("draining", calls=running.load.calls, long_calls=running.load.long_calls)
        await drain(running, delay_s=settings.drain_delay_s, timeout_s=settings.drain_timeout_s)
    log.info("stopped")


@asynccontextmanager
async def serving(settings: Settings, database_url: str) -> AsyncIterator[Running]:
    """A server that runs for the length of the block; leaving it ends what is still under way."""
    database = Database(
        database_url,
        size=settings.pool_size,
        timeout_s=settings.pool_timeout_s,
        prepared=settings.prepared_statements,
    )
    load = Admission(settings.max_concurrent_rpcs, settings.max_watchers)
    asset_store, objects = AssetStore(database), Objects(settings.asset_location())
    assets = Assets(asset_store, objects, _limits(settings))
    watching = Watching(
        WatchStore(database),
        HistoryStore(database),
        load.check_draining,
        listens=settings.prepared_statements,
    )
    models = Models(
        settings.providers, default_model=settings.default_model, echo_models=settings.echo_models
    )
    lease = Lease(uuid4(), settings.turn_lease_s)
    runner = _turn_runner(settings, database, load, assets, watching, models, lease)
    # Shared among the workers of one server only: two servers that meant to have it each would take turns, unnoticed.
    server = grpc.aio.server(options=[*OPTIONS, ("grpc.so_reuseport", int(settings.workers > 1))])
    server.add_generic_rpc_handlers(
        tuple(_handlers(settings, database, load, assets, watching, runner, models))
    )
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    if settings.reflection:
        names = [service.full_name for service in SERVICES]
        reflection.enable_server_reflection(
            [*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server
        )
    # Before anything runs in the background: where the address is taken, there is nothing to end.
    port = _bind(server, settings)
    await database.open()
    models.prepare()
    purger = Purger(
        PurgeStore(database),
        Flattener(FlatteningStore(database)),
        watching,
        interval_s=settings.purge_interval_s,
        request_retention_s=settings.request_id_retention_s,
    )
    sweeper = Sweeper(
        asset_store, objects, interval_s=settings.purge_interval_s, grace_s=settings.asset_grace_s
    )
    running = Running(port, load, server, health_servicer, database, objects, watching, runner)
    leases = TurnLeases(
        TurnStore(database, AppendStore(database)),
        runner,
        lease,
        is_draining=lambda: load.is_draining,
    )
    loops = [
        purger.run(),
        sweeper.run(),
        _watch_health(running),
        *watching.loops(),
        *leases.loops(),
    ]
    background = [asyncio.create_task(loop) for loop in loops]
    await server.start()
    try:
        yield running
    finally:
        await cancel_all(background)
        await server.stop(grace=0)
        await runner.close()
        await models.close()
        await watching.close()
        await assets.close()
        await database.close()


async def drain(running: Running, *, delay_s: float, timeout_s: float) -> None:
    """Stop taking calls, let those under way finish, tell streams to go on elsewhere.

    Args:
        delay_s: how long to go on as NOT_SERVING before connections are refused, for balancers to notice.
        timeout_s: how long calls under way may take.
    """
    await running.health.enter_graceful_shutdown()
    await asyncio.sleep(delay_s)
    running.load.is_draining = True
    running.watching.wake_all()
    # The turns go on without their streams, which are told to join them elsewhere.
    await asyncio.gather(running.server.stop(grace=timeout_s), running.runner.drain(timeout_s))


def _limits(settings: Settings) -> Limits:
    return Limits(
        max_message_bytes=settings.max_message_bytes,
        max_batch_messages=settings.max_batch_messages,
        max_batch_bytes=settings.max_batch_bytes,
        max_import_bytes=settings.max_import_bytes,
        max_asset_bytes=settings.max_asset_bytes,
        default_idle_ttl_ms=int(settings.default_idle_ttl_s * 1000) or None,
    )


def _turn_runner(
    settings: Settings,
    database: Database,
    load: Admission,
    assets: Assets,
    watching: Watching,
    models: Models,
    lease: Lease,
) -> TurnRunner:
    runner = TurnRunner(
        TurnStore(database, AppendStore(database)),
        SessionStore(database),
        HistoryStore(database),
        models,
        assets,
        watching,
        _limits(settings),
        tokenizer(settings.tokenizer),
        is_draining=lambda: load.is_draining,
        lease=lease,
        max_context_bytes=settings.max_context_bytes,
    )
    watching.listen(runner.heard)
    return runner


def _handlers(
    settings: Settings,
    database: Database,
    load: Admission,
    assets: Assets,
    watching: Watching,
    runner: TurnRunner,
    models: Models,
) -> list[grpc.GenericRpcHandler]:
    limits = _limits(settings)
    sessions, keys, bookmarks = SessionStore(database), KeyStore(database), BookmarkStore(database)
    counts = tokenizer(settings.tokenizer)
    authenticator = Authenticator(
        keys, require_keys=settings.require_keys, cache_s=settings.key_cache_s
    )
    calls = Calls(
        authenticator,
        load,
        default_deadline_s=settings.default_deadline_s,
        stream_idle_timeout_s=settings.import_idle_timeout_s,
    )
    turns = Turns(
        TurnStore(database, AppendStore(database)),
        sessions,
        runner,
        models,
        limits,
        counts,
        default_model=settings.default_model,
        max_timeout_ms=int(settings.turn_timeout_s * 1000),
    )
    appends = Appends(AppendStore(database), sessions, limits, counts, watching)
    servicers: tuple[Servicer, ...] = (
        SessionServicer(
            Sessions(sessions, limits, watching, turns.session_destroyed),
            Copies(CopyStore(database), sessions, settings.copy_max_messages, watching),
            SessionImports(SessionImportStore(database), sessions, limits, counts, watching),
            appends,
            BatchAppender(BatchAppendStore(database), appends, limits, watching),
            History(HistoryStore(database), bookmarks, settings.page_cache_bytes),
            load,
        ),
        TaskServicer(Tasks(TaskStore(database))),
        BookmarkServicer(Bookmarks(bookmarks)),
        ProcessingServicer(
            Processing(
                ProcessingStore(database),
                sessions,
                is_draining=lambda: load.is_draining,
                default_deadline_s=settings.default_deadline_s,
            )
        ),
        AssetServicer(assets, load),
        ConversationServicer(turns, TurnStreams(turns, runner, watching), watching),
        AdminServicer(Keys(keys)),
    )
    return [
        calls.handlers(service, servicer)
        for service, servicer in zip(SERVICES, servicers, strict=True)
    ]


def _bind(server: grpc.aio.Server, settings: Settings) -> int:
    try:
        if settings.tls_cert and settings.tls_key:
            port = server.add_secure_port(
                settings.listen, _credentials(settings.tls_cert, settings.tls_key)
            )
        else:
            port = server.add_insecure_port(settings.listen)
    except RuntimeError as e:
        raise OSError(f"cannot listen on {settings.listen}: {e}") from e
    if not port and not settings.listen.startswith("unix:"):
        raise OSError(f"cannot listen on {settings.listen}")
    return port


def _credentials(certificate: Path, key: Path) -> grpc.ServerCredentials:
    """Raises: OSError for a pair that TLS cannot use. gRPC would take it, and then report that it cannot bind the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as e:
        raise OSError(
            f"--tls-cert {certificate} and --tls-key {key} are no certificate chain and its private key in PEM: {e}"
        ) from e
    return grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])


def _no_password() -> str:
    # Without this, OpenSSL asks for one on the terminal, and the server waits.
    raise ValueError("the key is encrypted; give it decrypted")


async def _watch_health(running: Running) -> None:
    """The health service says SERVING while the database answers."""
    status = None
    while True:
        try:
            async with asyncio.timeout(HEALTH_CHECK_INTERVAL_S * 2):
                await running.database.ping()
            current = health_pb2.HealthCheckResponse.SERVING
        except PoolExhausted:
            # Busy is not broken: a balancer that took a busy server out would make the others busier.
            current = health_pb2.HealthCheckResponse.SERVING
        except (DatabaseUnavailable, TimeoutError):
            current = health_pb2.HealthCheckResponse.NOT_SERVING
        if current != status:
            if status is not None or current == health_pb2.HealthCheckResponse.NOT_SERVING:
                log.warning(
                    "health", status=health_pb2.HealthCheckResponse.ServingStatus.Name(current)
                )
            status = current
            for name in ("", *(service.full_name for service in SERVICES)):
                await running.health.set(name, current)
        await asyncio.sleep(HEALTH_CHECK_INTERVAL_S)
