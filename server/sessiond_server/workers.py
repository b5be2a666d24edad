"""Several processes on one port (SO_REUSEPORT). The parent owns the database and the port; it never touches gRPC, which does not
survive a fork, so workers are started as programs of their own.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog

from sessiond_server.settings import Settings

START_TIMEOUT_S = 60.0
MAX_QUICK_DEATHS = 5
QUICK_DEATH_S = 5.0

log = structlog.get_logger(__name__)


class WorkersError(Exception):
    """The workers do not start."""


async def run(settings: Settings, database_url: str, *, on_ready: Callable[[int], None]) -> None:
    """Run settings.workers processes until SIGTERM or SIGINT; one that dies is started again.

    Raises: WorkersError, OSError.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with _reserved_port(settings.listen) as (listen, port):
        environment = os.environ | settings.environment()
        environment |= {"SESSIOND_LISTEN": listen, "SESSIOND_DATABASE_URL": database_url}
        ready = [asyncio.Event() for _ in range(settings.workers)]
        stop_after_s = settings.drain_delay_s + settings.drain_timeout_s + 10.0
        keepers = [
            asyncio.create_task(_keep(event, environment, stop, stop_after_s)) for event in ready
        ]
        try:
            everybody = asyncio.gather(*(event.wait() for event in ready))
            stopped = asyncio.ensure_future(stop.wait())
            started: list[asyncio.Future[Any]] = [everybody, stopped, *keepers]
            await asyncio.wait(started, return_when=asyncio.FIRST_COMPLETED)
            if everybody.done():
                on_ready(port)
            else:
                everybody.cancel()
            await asyncio.wait([stopped, *keepers], return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
        finally:
            stop.set()
            results = await asyncio.gather(*keepers, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result


class _reserved_port:  # noqa: N801
    """Holds the port, so that `port 0` is one number for all workers, and one that others use is found out at once."""

    def __init__(self, listen: str) -> None:
        if listen.startswith("unix:"):
            raise OSError("several workers share a TCP port; a unix: socket takes one")
        host, _, port = listen.rpartition(":")
        self._host = host
        family, _, _, _, address = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM
        )[0]
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            # SO_REUSEPORT would let in the workers of another server too, and calls would go to either by chance.
            with socket.socket(family, socket.SOCK_STREAM) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(address)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._socket.bind(address)
        except OSError as e:
            self._socket.close()
            raise OSError(f"cannot listen on {listen}: {e.strerror}") from e

    def __enter__(self) -> tuple[str, int]:
        port = self._socket.getsockname()[1]
        return f"{self._host}:{port}", port

    def __exit__(self, *exc: object) -> None:
        self._socket.close()


async def _keep(
    ready: asyncio.Event, environment: dict[str, str], stop: asyncio.Event, stop_after_s: float
) -> None:
    """Keep one worker running until `stop`."""
    quick_deaths = 0
    loop = asyncio.get_running_loop()
    while not stop.is_set():
        started = loop.time()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            __name__,
            env=environment,
            stdin=asyncio.subprocess.PIPE,  # its end tells the worker that we are gone, however we went
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        ended = asyncio.ensure_future(process.wait())
        stopped = asyncio.ensure_future(stop.wait())
        line = asyncio.ensure_future(process.stdout.readline())  # type: ignore[union-attr]
        await asyncio.wait(
            [line, ended, stopped], timeout=START_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
        )
        if line.done() and line.result().startswith(b"ready"):
            ready.set()
            await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
        line.cancel()
        stopped.cancel()
        if stop.is_set():
            with suppress(ProcessLookupError):
                process.terminate()
            await asyncio.wait([ended], timeout=stop_after_s)
        if not ended.done():
            process.kill()
        await ended
        if stop.is_set():
            return
        log.error("a worker ended", pid=process.pid, exit_code=process.returncode)
        quick_deaths = quick_deaths + 1 if loop.time() - started < QUICK_DEATH_S else 0
        if quick_deaths >= MAX_QUICK_DEATHS:
            raise WorkersError(
                f"workers end as soon as they start (exit code {process.returncode}); the log above says why"
            )
        await asyncio.sleep(0.1 * 2**quick_deaths)


def _work() -> None:
    """A worker: serves as the environment says until its parent tells it to stop, or is gone."""
    import uvloop

    from sessiond_server import logs, server, settings

    mine = settings.load()
    logs.configure(mine.log_format, mine.log_level)

    def on_ready(port: int) -> None:
        def parent_is_gone() -> None:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            os.kill(os.getpid(), signal.SIGTERM)

        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), parent_is_gone)
        sys.stdout.write(f"ready {port}\n")
        sys.stdout.flush()

    assert mine.database_url is not None  # noqa: S101 - the parent sets it
    try:
        uvloop.run(server.run(mine, mine.database_url, on_ready=on_ready))
    except OSError as e:
        sys.exit(f"sessiond worker: {e}")


if __name__ == "__main__":
    _work()
