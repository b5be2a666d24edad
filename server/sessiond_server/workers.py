"""Several worker processes that share one port using SO_REUSEPORT.

The parent process owns the database and the port. It never uses gRPC, which does not survive a
fork. Workers are started as separate programs.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import structlog

from sessiond_server.core.imports import without_collections
from sessiond_server.core.service_manager import SOCKET_VARIABLE, notify
from sessiond_server.reloading import RELOADABLE, loaded, on_hangup
from sessiond_server.settings import Settings
from sessiond_server.settings.model import ENV_PREFIX
from sessiond_server.telemetry.endpoint import worker_ended

START_TIMEOUT_S = 60.0
MAX_QUICK_DEATHS = 5
QUICK_DEATH_S = 5.0
STDERR = 2

log = structlog.get_logger(__name__)


class WorkersError(Exception):
    """The workers cannot be started."""


async def run(
    settings: Settings,
    database_url: str,
    *,
    on_ready: Callable[[int], None],
    load: Callable[[], Settings],
) -> None:
    """Run settings.workers processes until SIGTERM or SIGINT, and restart any that die.

    Args:
        settings: settings of every worker.
        database_url: a database with the newest schema.
        on_ready: called with the port as soon as every worker is ready.
        load: loads the settings again at SIGHUP.

    Raises:
        OSError: if the port cannot be reserved.
        WorkersError: if a worker repeatedly dies right after its start.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with reserve_port(settings.listen) as (listen, port):
        # The workers receive the settings as they were loaded, since the configuration file may
        # have changed.
        environment = os.environ | settings.environment()
        environment |= {
            "SESSIOND_CONFIG": "",
            "SESSIOND_LISTEN": listen,
            "SESSIOND_DATABASE_URL": database_url,
        }
        # Only this process reports to the service manager.
        environment.pop(SOCKET_VARIABLE, None)
        ready = [asyncio.Event() for _ in range(settings.workers)]
        running: set[asyncio.subprocess.Process] = set()

        def reload() -> None:
            if new := loaded(load, settings):
                changed = {
                    name: value
                    for name, value in new.environment().items()
                    if name.removeprefix(ENV_PREFIX).lower() in RELOADABLE
                }
                environment.update(changed)
                for process in running:
                    if process.stdin:
                        process.stdin.write(json.dumps(changed).encode() + b"\n")

        on_hangup(loop, reload, stop.set)
        stop_after_s = settings.drain_delay_s + settings.drain_timeout_s + 10.0
        keepers = [
            asyncio.create_task(_keep(event, environment, stop, stop_after_s, running))
            for event in ready
        ]
        try:
            all_ready = asyncio.gather(*(event.wait() for event in ready))
            stopped = asyncio.ensure_future(stop.wait())
            started: list[asyncio.Future[Any]] = [all_ready, stopped, *keepers]
            await asyncio.wait(started, return_when=asyncio.FIRST_COMPLETED)
            if all_ready.done():
                on_ready(port)
            else:
                all_ready.cancel()
            await asyncio.wait([stopped, *keepers], return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
        finally:
            notify("STOPPING=1")
            stop.set()
            results = await asyncio.gather(*keepers, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result


@contextmanager
def reserve_port(listen: str) -> Iterator[tuple[str, int]]:
    """Hold a port for the duration of the block.

    The reservation replaces port 0 by one port number for all workers. It also fails immediately if
    another server is using the port.

    Yields:
        The address with the actual port, and the port.

    Raises:
        OSError: if the address cannot be bound or is a unix: socket.
    """
    if listen.startswith("unix:"):
        raise OSError("several workers share a TCP port; a unix: socket serves only one")
    host, _, port = listen.rpartition(":")
    family, _, _, _, address = socket.getaddrinfo(
        host.strip("[]"), int(port), type=socket.SOCK_STREAM
    )[0]
    with closing(socket.socket(family, socket.SOCK_STREAM)) as reserved:
        try:
            # Binding with SO_REUSEPORT alone would also succeed if another server's workers use the
            # port, and each call would reach either server by chance. Binding without it fails in
            # that case.
            with socket.socket(family, socket.SOCK_STREAM) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(address)
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            # The kernel may still keep closed connections of an earlier server. If that server was
            # a single process, they lack SO_REUSEPORT, so binding also requires SO_REUSEADDR.
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reserved.bind(address)
        except OSError as e:
            raise OSError(f"cannot listen on {listen}: {e.strerror}") from e
        number = reserved.getsockname()[1]
        yield f"{host}:{number}", number


async def _keep(
    ready: asyncio.Event,
    environment: dict[str, str],
    stop: asyncio.Event,
    stop_after_s: float,
    running: set[asyncio.subprocess.Process],
) -> None:
    """Keep one worker running until `stop` is set. `running` contains it while it is ready."""
    quick_deaths = 0
    loop = asyncio.get_running_loop()
    while not stop.is_set():
        started_at = loop.time()
        with _readiness_pipe() as (is_ready, write_end):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                __name__,
                str(write_end),
                env=environment,
                # The worker reads from its end of this pipe. A line of JSON contains the variables
                # that have changed. EOF means that the parent has ended.
                stdin=asyncio.subprocess.PIPE,
                # The worker's stdout is not a pipe: without a reader, a pipe would fill up and
                # block the worker's event loop.
                stdout=STDERR,
                pass_fds=[write_end],
                start_new_session=True,
            )
            ended = asyncio.ensure_future(process.wait())
            stopped = asyncio.ensure_future(stop.wait())
            became_ready = asyncio.ensure_future(is_ready.wait())
            await asyncio.wait(
                [became_ready, ended, stopped],
                timeout=START_TIMEOUT_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
            became_ready.cancel()
        if is_ready.is_set():
            ready.set()
            running.add(process)
            await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
            running.discard(process)
        stopped.cancel()
        if stop.is_set():
            with suppress(ProcessLookupError):
                process.terminate()
            await asyncio.wait([ended], timeout=stop_after_s)
        if not ended.done():
            process.kill()
        await ended
        worker_ended(process.pid)
        if stop.is_set():
            return
        log.error("worker_died", pid=process.pid, exit_code=process.returncode)
        # A worker that was never ready counts as well, however long it ran: on a slow machine, a
        # start may take longer than QUICK_DEATH_S to fail.
        is_quick = not is_ready.is_set() or loop.time() - started_at < QUICK_DEATH_S
        quick_deaths = quick_deaths + 1 if is_quick else 0
        if quick_deaths >= MAX_QUICK_DEATHS:
            raise WorkersError(
                f"workers die as soon as they start (exit code {process.returncode}); "
                "see the log above for the reason"
            )
        await asyncio.sleep(0.1 * 2**quick_deaths)


@contextmanager
def _readiness_pipe() -> Iterator[tuple[asyncio.Event, int]]:
    """Yield an event and the write end of a pipe. Writing a byte to the pipe sets the event."""
    loop, is_ready = asyncio.get_running_loop(), asyncio.Event()
    read_end, write_end = os.pipe()

    def on_readable() -> None:
        loop.remove_reader(read_end)
        if os.read(read_end, 1):
            is_ready.set()

    loop.add_reader(read_end, on_readable)
    try:
        yield is_ready, write_end
    finally:
        loop.remove_reader(read_end)
        os.close(read_end)
        os.close(write_end)


def _work(ready_fd: int) -> None:
    """Serve with settings from the environment until the parent terminates this worker or ends."""
    with without_collections():
        import uvloop

        from sessiond_server import logs, server, settings

    given = settings.load()
    logs.configure(given.log_format, given.log_level)

    def on_ready(port: int) -> None:
        received = bytearray()

        def from_parent() -> None:
            chunk = os.read(sys.stdin.fileno(), 65536)
            if not chunk:
                asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
                os.kill(os.getpid(), signal.SIGTERM)
            received.extend(chunk)
            while b"\n" in received:
                line, _, rest = bytes(received).partition(b"\n")
                received[:] = rest
                os.environ.update(json.loads(line))
                os.kill(os.getpid(), signal.SIGHUP)

        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), from_parent)
        with suppress(BrokenPipeError):
            os.write(ready_fd, b"\n")
        os.close(ready_fd)

    assert given.database_url is not None  # noqa: S101 - the parent sets it
    try:
        uvloop.run(server.run(given, given.database_url, on_ready=on_ready, load=settings.load))
    except OSError as e:
        sys.exit(f"sessiond worker: {e}")


if __name__ == "__main__":
    _work(int(sys.argv[1]))
