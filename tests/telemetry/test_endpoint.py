"""--metrics-listen: the responses to scrapers and probes, from one process and from several."""

import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

import psutil
import pytest

from sessiond import Client

from ..support.metrics import get, parsed
from ..support.processes import ServerProcess, free_port
from ..support.waiting import until

Start = Callable[..., ServerProcess]
HANDLED = "grpc_server_handled_total"


def started(start_server: Start, database_url: str, *flags: str) -> tuple[ServerProcess, str]:
    metrics = f"127.0.0.1:{free_port()}"
    process = start_server("--metrics-listen", metrics, *flags, SESSIOND_DATABASE_URL=database_url)
    return process, metrics


def append(target: str, session_id: str, count: int) -> None:
    with Client(target) as client:
        session = client.create_session(session_id)
        for i in range(count):
            session.store_message({"role": "user", "content": f"message {i}"})


def test_one_process_serves_metrics_and_probes(start_server: Start, database_url: str) -> None:
    process, metrics = started(start_server, database_url)
    append(process.target, "s", 3)
    until(lambda: get(metrics, "/readyz") == (200, "ready\n"), "it is ready")
    assert get(metrics, "/livez") == (200, "alive\n")
    status, text = get(metrics, "/metrics")
    scraped = parsed(text)
    assert status == 200
    assert scraped.value(HANDLED, grpc_method="StoreMessages", grpc_code="OK") == 3
    assert scraped.value("sessiond_messages_stored_total") == 3
    assert scraped.value("sessiond_build_info") == 1
    # A request for headers only, another path, another method, and data that is not HTTP.
    assert get(metrics, "/metrics", "HEAD") == (200, "")
    assert get(metrics, "/")[0] == 404
    assert get(metrics, "/metrics", "POST")[0] == 405
    host, port = metrics.split(":")
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(b"\x16\x03\x01" + bytes(32 * 1024))
        with suppress(ConnectionResetError):
            while raw.recv(4096):
                pass
    assert get(metrics, "/livez")[0] == 200


def test_readyz_fails_while_the_server_drains(start_server: Start, database_url: str) -> None:
    process, metrics = started(start_server, database_url, "--drain-delay-s", "60")
    until(lambda: get(metrics, "/readyz")[0] == 200, "it is ready")
    process.process.terminate()
    until(lambda: get(metrics, "/readyz")[0] == 503, "it is no longer ready")
    assert get(metrics, "/livez")[0] == 200
    process.kill()


def test_several_workers_are_summed_even_after_one_was_killed(
    start_server: Start, database_url: str
) -> None:
    process, metrics = started(start_server, database_url, "--workers", "2", "--pool-size", "3")

    def value(name: str, **labels: str) -> float:
        return parsed(get(metrics, "/metrics")[1]).value(name, **labels)

    def workers() -> list[psutil.Process]:
        return [
            child
            for child in psutil.Process(process.process.pid).children()
            if child.status() != psutil.STATUS_ZOMBIE
            and "sessiond_server.workers" in child.cmdline()
        ]

    # Each client has its own connection, which the kernel gives to one of the workers.
    for i in range(8):
        append(process.target, f"s{i}", 2)
    until(lambda: value("sessiond_messages_stored_total") == 16, "every worker has reported")
    until(lambda: value("sessiond_db_pool_max_size") == 6, "the gauges of both are added")
    assert get(metrics, "/readyz")[0] == get(metrics, "/livez")[0] == 200
    assert value("sessiond_build_info") == 1
    before = {worker.pid for worker in workers()}
    os.kill(min(before), signal.SIGKILL)
    until(lambda: bool({w.pid for w in workers()} - before), "another worker was started")
    until(lambda: value("sessiond_db_pool_max_size") == 6, "the dead worker's gauges are gone")
    assert value("sessiond_messages_stored_total") == 16
    process.terminate()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_address_that_is_taken_is_named(
    start_server: Start, database_url: str, workers: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(AssertionError) as failure:
            start_server(
                "--metrics-listen", address, "--workers", workers,
                SESSIOND_DATABASE_URL=database_url,
            )  # fmt: skip
    assert f"cannot listen on {address} (--metrics-listen)" in str(failure.value)
    assert "Traceback" not in str(failure.value)
