"""The console of `serve --console`: a child process, which the server restarts when it dies."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import structlog

from sessiond_server.core.cancellation import cancel_all
from sessiond_server.settings import Settings

DEFAULT_LISTEN = "localhost:8321"
FIRST_RESTART_S = 1.0
MAX_RESTART_S = 30.0
STOP_TIMEOUT_S = 5.0

log = structlog.get_logger(__name__)


def with_address(arguments: list[str]) -> list[str]:
    """Return the arguments of `serve`, with the default address added to a bare --console."""
    found: list[str] = []
    for i, argument in enumerate(arguments):
        found.append(argument)
        following = arguments[i + 1 : i + 2]
        if argument == "--console" and (not following or following[0].startswith("--")):
            found.append(DEFAULT_LISTEN)
    return found


@asynccontextmanager
async def console_beside(settings: Settings) -> AsyncIterator[Callable[[int], None]]:
    """End the console, if there is one, at the end of the block.

    Yields:
        A function that starts the console. It takes the server's port.
    """
    tasks: list[asyncio.Task[None]] = []

    def start(port: int) -> None:
        if settings.console:
            target = target_of(settings.listen, port)
            tasks.append(asyncio.create_task(_keep(_flags(settings, target))))

    try:
        yield start
    finally:
        await cancel_all(tasks)


def target_of(listen: str, port: int) -> str:
    """Return the address at which this machine reaches a server that listens on an address."""
    if listen.startswith("unix:"):
        return listen
    host = listen.rpartition(":")[0]
    return f"{'localhost' if host in ('0.0.0.0', '[::]', '') else host}:{port}"  # noqa: S104


def _flags(settings: Settings, target: str) -> list[str]:
    flags = ["--listen", str(settings.console), "--target", target]
    if settings.tls_cert:
        flags += ["--tls-ca", str(settings.tls_cert)]
    return [*flags, "--insecure"] if settings.insecure else flags


async def _keep(flags: list[str]) -> None:
    """Keep the console running until this task is cancelled."""
    loop = asyncio.get_running_loop()
    delay = FIRST_RESTART_S
    while True:
        started_at = loop.time()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sessiond_server", "console", "--until-eof", *flags),
            # The console reads from its end of this pipe. EOF means that this process has ended.
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            exit_code = await process.wait()
        except asyncio.CancelledError:
            with suppress(ProcessLookupError):
                process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
            raise
        if loop.time() - started_at > MAX_RESTART_S:
            delay = FIRST_RESTART_S
        # The server works without the console, so it keeps running if the console cannot start.
        log.error("console_died", exit_code=exit_code, restart_in_s=delay)
        await asyncio.sleep(delay)
        delay = min(2 * delay, MAX_RESTART_S)
