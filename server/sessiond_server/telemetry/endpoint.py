"""The HTTP endpoint of --metrics-listen: /metrics, /livez and /readyz.

It belongs to the process that owns the port: the server or, with several workers, their parent. The
workers write their values to files, and the parent adds them up.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from http import HTTPStatus
from typing import Final

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import (
    MultiProcessCollector,
    mark_process_dead,
)

from sessiond_server.telemetry import metrics

DIRECTORY_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
# A process whose event loop has not run for this long is stuck.
STUCK_S = 30.0
# A request has only a few headers. A client that sends more, or takes longer, is no scraper.
MAX_REQUEST_BYTES = 16 * 1024
REQUEST_TIMEOUT_S = 10.0

log = structlog.get_logger(__name__)


class Endpoint:
    """Answers the requests of scrapers and probes.

    Args:
        registry: the metrics.
        refresh: called before the metrics are collected.
    """

    def __init__(
        self, registry: CollectorRegistry, refresh: Callable[[], None] = lambda: None
    ) -> None:
        self._registry = registry
        self._refresh = refresh

    def answer(self, path: str, accept: str = "") -> tuple[HTTPStatus, str, bytes]:
        """Return the status, the content type and the body for a GET of a path."""
        match path.partition("?")[0]:
            case "/metrics":
                self._refresh()
                encode, content_type = choose_encoder(accept)
                return HTTPStatus.OK, content_type, encode(self._registry)
            case "/livez":
                return self._state(self._is_alive(), "alive", "the event loop of a worker is stuck")
            case "/readyz":
                return self._state(
                    self._value("sessiond_ready") > 0,
                    "ready",
                    "the database does not answer, or the server is draining",
                )
        return HTTPStatus.NOT_FOUND, _TEXT, b"not found: there are /metrics, /livez and /readyz\n"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and close the connection."""
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *headers = head.split("\r\n")
                method, _, rest = line.partition(" ")
                accept = next((h[7:] for h in headers if h[:7].lower() == "accept:"), "")
                if method in ("GET", "HEAD"):
                    status, content_type, body = self.answer(rest.partition(" ")[0], accept)
                else:
                    status, content_type = HTTPStatus.METHOD_NOT_ALLOWED, _TEXT
                    body = b"only GET and HEAD\n"
                writer.write(
                    f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content_type}\r\n"
                    f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                )
                writer.write(b"" if method == "HEAD" else body)
                await writer.drain()
        except (TimeoutError, OSError, EOFError, asyncio.LimitOverrunError):
            pass  # the client is gone, or speaks no HTTP
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _is_alive(self) -> bool:
        beat = self._value("sessiond_heartbeat_timestamp_seconds")
        return not beat or time.time() - beat < STUCK_S

    def _value(self, name: str) -> float:
        return self._registry.get_sample_value(name) or 0.0

    @staticmethod
    def _state(is_well: bool, well: str, problem: str) -> tuple[HTTPStatus, str, bytes]:
        status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
        return status, _TEXT, f"{well if is_well else problem}\n".encode()


_TEXT = "text/plain; charset=utf-8"


@asynccontextmanager
async def metrics_endpoint(listen: str | None, workers: int) -> AsyncIterator[None]:
    """Serve the endpoint for the duration of the block.

    Args:
        listen: HOST:PORT; None = there is no endpoint.
        workers: number of processes that serve. They must be started within the block, because
            they inherit DIRECTORY_VARIABLE, which is set at the start of the block.

    Raises:
        OSError: if the address cannot be bound.
    """
    if not listen:
        yield
        return
    with _endpoint(workers) as endpoint:
        host, _, port = listen.rpartition(":")
        try:
            server = await asyncio.start_server(
                endpoint.serve, host.strip("[]"), int(port), limit=MAX_REQUEST_BYTES
            )
        except OSError as e:
            raise OSError(f"cannot listen on {listen} (--metrics-listen): {e.strerror}") from e
        async with server:
            [address, *_] = server.sockets
            log.info("metrics_served", address=f"{host}:{address.getsockname()[1]}")
            yield


@contextmanager
def _endpoint(workers: int) -> Iterator[Endpoint]:
    if workers == 1:
        yield Endpoint(metrics.REGISTRY, metrics.flush)
        return
    with tempfile.TemporaryDirectory(prefix="sessiond-metrics-") as directory:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]
        os.environ[DIRECTORY_VARIABLE] = directory
        try:
            yield Endpoint(registry)
        finally:
            del os.environ[DIRECTORY_VARIABLE]


def worker_ended(pid: int) -> None:
    """Drop the gauges of a worker that has ended. Its counters remain part of the sums."""
    if directory := os.environ.get(DIRECTORY_VARIABLE):
        mark_process_dead(pid, directory)  # type: ignore[no-untyped-call]
