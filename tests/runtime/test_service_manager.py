"""The server's notifications for systemd, in a unit of Type=notify with a watchdog."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sessiond_server.core import service_manager

from ..support.processes import ServerProcess


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(60)
        yield listening


def received(manager: socket.socket, wanted: str) -> list[str]:
    """Return the states that arrive, up to `wanted`."""
    states = [manager.recv(4096).decode()]
    while states[-1] != wanted:
        states.append(manager.recv(4096).decode())
    return states


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_manager_learns_of_start_life_and_stop(
    workers: str,
    manager: socket.socket,
    start_server: Callable[..., ServerProcess],
    database_url: str,
) -> None:
    process = start_server(
        "--workers", workers, SESSIOND_DATABASE_URL=database_url,
        NOTIFY_SOCKET=str(manager.getsockname()), WATCHDOG_USEC="300000",
    )  # fmt: skip
    assert "READY=1" in received(manager, "READY=1")
    assert received(manager, "WATCHDOG=1")
    process.process.terminate()
    assert received(manager, "STOPPING=1")[:-1].count("READY=1") == 0
    process.process.wait(60)


def test_a_stuck_server_is_silent(
    manager: socket.socket, start_server: Callable[..., ServerProcess], database_url: str
) -> None:
    process = start_server(
        SESSIOND_DATABASE_URL=database_url,
        NOTIFY_SOCKET=str(manager.getsockname()), WATCHDOG_USEC="300000",
    )  # fmt: skip
    received(manager, "READY=1")
    os.kill(process.process.pid, signal.SIGSTOP)
    manager.settimeout(1.0)
    # Discard the notifications that were sent before the stop.
    with suppress(TimeoutError):
        for _ in range(100):
            manager.recv(4096)
    with pytest.raises(TimeoutError):
        manager.recv(4096)
    os.kill(process.process.pid, signal.SIGCONT)


def test_the_watchdog_of_another_process_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    assert service_manager.watchdog_s() == 1.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert service_manager.watchdog_s() == 0.0
    monkeypatch.delenv("WATCHDOG_PID")
    monkeypatch.setenv("WATCHDOG_USEC", "soon")
    assert service_manager.watchdog_s() == 0.0
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/notify")
    service_manager.notify("READY=1")  # no service manager listens
