"""Serves the application on a socket until SIGTERM or SIGINT."""

import asyncio
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

# How long requests in progress may still take when the console stops. Live streams are cut off.
SHUTDOWN_S = 3


class Failure(Exception):
    """The application cannot be served. The text names the flag."""


def serve(
    app: ASGIApp,
    listener: socket.socket,
    *,
    host: str,
    cert: Path | None,
    key: Path | None,
    until_eof: bool,
) -> int:
    """Serve until SIGTERM or SIGINT, and print the address.

    Args:
        app: the application.
        listener: the bound socket.
        host: the host of the printed address.
        cert: PEM file with the certificate chain. None = no TLS.
        key: PEM file with the private key.
        until_eof: also end when stdin does.

    Returns:
        The exit code.

    Raises:
        Failure: if the certificate or the key cannot be used.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
        ssl_certfile=cert,
        ssl_keyfile=key,
        lifespan="on",
    )
    try:
        config.load()
    except OSError as error:
        listener.close()
        raise Failure(f"--cert, --key: {error}") from None
    url = f"{'https' if cert else 'http'}://{host}:{listener.getsockname()[1]}"
    return asyncio.run(_serve(_Server(config), listener, url, until_eof=until_eof))


async def _serve(server: "_Server", listener: socket.socket, url: str, *, until_eof: bool) -> int:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.end)
    if until_eof:
        # A parent process holds the other end of this pipe. When it ends, the console ends, too.
        loop.add_reader(sys.stdin.fileno(), _end_with_parent, loop, server)
    sys.stdout.write(f"sessiond console on {url}\n")
    sys.stdout.flush()
    await server.serve(sockets=[listener])
    return 0


def _end_with_parent(loop: asyncio.AbstractEventLoop, server: "_Server") -> None:
    # A closed pipe stays readable, so this callback would run again. A second call of end() would
    # not wait for requests.
    loop.remove_reader(sys.stdin.fileno())
    if not server.should_exit:
        server.end()


class _Server(uvicorn.Server):
    """uvicorn's server, whose signals the command handles."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the command."""
        yield

    def end(self) -> None:
        """End the server; a second call ends it at once."""
        self.force_exit = self.should_exit
        self.should_exit = True
