"""`sessiond serve`."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import structlog
import uvloop

from sessiond_server import server, workers
from sessiond_server.cli.console_process import console_beside, with_address
from sessiond_server.cli.database import check_schema, load_settings, started, upgrade
from sessiond_server.cli.errors import CommandError
from sessiond_server.core.cancellation import cancel_all
from sessiond_server.core.service_manager import watched_over
from sessiond_server.embedded import EmbeddedPostgres
from sessiond_server.settings import Settings, load
from sessiond_server.telemetry.endpoint import metrics_endpoint

# Connections of a process outside its pool: one listens, and one is for the health check.
EXTRA_CONNECTIONS = 2

_EPILOG = (
    "--migrate: bring the schema of --database-url to this version before serving. "
    "The embedded database is always migrated."
)

log = structlog.get_logger("sessiond")


def run(arguments: list[str]) -> int:
    """Serve until SIGTERM or SIGINT.

    Args:
        arguments: flags for the settings, and --migrate to migrate an external database first.

    Returns:
        The exit code.

    Raises:
        CommandError: if the server cannot start.
        EmbeddedError: if the embedded database cannot run.
    """
    # Until the server installs its own handlers, SIGTERM ends the start and stops PostgreSQL.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    flags = with_address([a for a in arguments if a != "--migrate"])
    settings = load_settings(flags, "serve", _EPILOG)
    log.info("settings", **settings.redacted())
    with _database(settings, "--migrate" in arguments) as (url, embedded):
        try:
            uvloop.run(_serve(settings, url, embedded, partial(load, flags)))
        except (OSError, workers.WorkersError) as e:
            raise CommandError(str(e)) from None
    return 0


@contextmanager
def _database(
    settings: Settings, with_migration: bool
) -> Iterator[tuple[str, EmbeddedPostgres | None]]:
    if settings.database_url:
        if with_migration:
            upgrade(settings.database_url)
        else:
            check_schema(settings.database_url)
        yield settings.database_url, None
        return
    connections = settings.workers * (settings.pool_size + EXTRA_CONNECTIONS)
    embedded = EmbeddedPostgres(settings.data_dir, connections=connections)
    # PostgreSQL stops after draining, so that calls in progress can use it until they end.
    with started(embedded) as url:
        yield url, embedded


async def _serve(
    settings: Settings, url: str, embedded: EmbeddedPostgres | None, reload: Callable[[], Settings]
) -> None:
    serve = server.run if settings.workers == 1 else workers.run
    announce = _announcer(settings, embedded)
    async with (
        supervised(embedded),
        watched_over() as tell_ready,
        metrics_endpoint(settings.metrics_listen, settings.workers),
        console_beside(settings) as start_console,
    ):

        def on_ready(port: int) -> None:
            announce(port)
            start_console(port)
            tell_ready()

        await serve(settings, url, on_ready=on_ready, load=reload)


@asynccontextmanager
async def supervised(embedded: EmbeddedPostgres | None) -> AsyncIterator[None]:
    """Restart the embedded PostgreSQL whenever it dies, for the duration of the block."""
    tasks = [asyncio.create_task(embedded.supervise())] if embedded else []
    try:
        yield
    finally:
        await cancel_all(tasks)


def _announcer(settings: Settings, embedded: EmbeddedPostgres | None) -> Callable[[int], None]:
    def announce(port: int) -> None:
        unix = settings.listen.startswith("unix:")
        address = settings.listen if unix else f"{settings.listen.rpartition(':')[0]}:{port}"
        where = (
            f"embedded PostgreSQL in {settings.data_dir}"
            if embedded
            else str(settings.redacted()["database_url"])
        )
        processes = "1 process" if settings.workers == 1 else f"{settings.workers} processes"
        sys.stdout.write(f"sessiond serves on {address} ({where}; {processes})\n")
        sys.stdout.flush()

    return announce
