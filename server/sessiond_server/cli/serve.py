"""`sessiond serve`."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
import uvloop

from sessiond_server import server, workers
from sessiond_server.cli.database import check_schema, load_settings, upgrade
from sessiond_server.cli.errors import CommandError
from sessiond_server.embedded import EmbeddedError, EmbeddedPostgres
from sessiond_server.settings import Settings

log = structlog.get_logger("sessiond")


def run(arguments: list[str]) -> int:
    """Serve until SIGTERM or SIGINT. `--migrate` migrates a database that is not the embedded one first."""
    with_migration = "--migrate" in arguments
    settings = load_settings(
        [argument for argument in arguments if argument != "--migrate"],
        "serve",
        "--migrate: bring the schema of --database-url to this version before serving (the embedded database's always is).",
    )
    log.info("settings", **settings.redacted())
    with _database(settings, with_migration) as (url, embedded):
        supervisor = embedded.supervise if embedded else None
        try:
            if settings.workers == 1:
                uvloop.run(_serve(settings, url, supervisor, _announcer(settings, embedded)))
            else:
                uvloop.run(
                    _serve_workers(settings, url, supervisor, _announcer(settings, embedded))
                )
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
    try:
        # Each process has one besides its pool, which listens.
        embedded = EmbeddedPostgres(
            settings.data_dir, connections=settings.workers * (settings.pool_size + 1)
        )
        url = embedded.start()
    except EmbeddedError as e:
        raise CommandError(str(e)) from None
    try:
        upgrade(url)
        yield url, embedded
    finally:
        # After the drain: calls under way have had their database to the end.
        embedded.stop()


async def _serve(
    settings: Settings,
    url: str,
    supervise: Callable[[], object] | None,
    on_ready: Callable[[int], None],
) -> None:
    async with _beside(supervise):
        await server.run(settings, url, on_ready=on_ready)


async def _serve_workers(
    settings: Settings,
    url: str,
    supervise: Callable[[], object] | None,
    on_ready: Callable[[int], None],
) -> None:
    async with _beside(supervise):
        await workers.run(settings, url, on_ready=on_ready)


class _beside:  # noqa: N801 - reads as a statement
    """Runs the database's supervisor for the length of the block."""

    def __init__(self, supervise: Callable[[], object] | None) -> None:
        self._supervise = supervise
        self._task: asyncio.Task[object] | None = None

    async def __aenter__(self) -> None:
        if self._supervise:
            self._task = asyncio.create_task(self._supervise())  # type: ignore[arg-type]

    async def __aexit__(self, *exc: object) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])


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
