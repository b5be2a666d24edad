"""Starts of several workers. tests/acceptance/test_workers.py tests restarts and shutdowns."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from sessiond import Client

from ..support.processes import ServerProcess

Start = Callable[..., ServerProcess]


def serve(*flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `sessiond serve`, which is expected to end by itself."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SESSIOND_")}
    command = [sys.executable, "-m", "sessiond_server", "serve", *flags]
    return subprocess.run(
        command, env=clean | environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_port_is_shared_with_no_other_server(database_url: str, start_server: Start) -> None:
    """The kernel allows both servers to listen, and would give each connection to either."""
    first = start_server("--workers", "2", SESSIOND_DATABASE_URL=database_url)
    for workers in ("1", "2"):
        second = serve(
            "--workers", workers, "--listen", first.target, SESSIOND_DATABASE_URL=database_url
        )
        assert second.returncode == 1
        assert f"cannot listen on {first.target}" in second.stderr
        assert "Traceback" not in second.stderr
    with Client(first.target) as client:
        assert client.create_session("one").session_id == "one"
    assert first.terminate() == 0


def test_a_port_is_free_again_at_once(database_url: str, start_server: Start) -> None:
    """The port is free even while connections of the former server's clients are in TIME_WAIT."""
    first = start_server("--workers", "2", SESSIOND_DATABASE_URL=database_url)
    with Client(first.target) as client:
        client.create_session("one")
        assert first.terminate() == 0
    again = start_server(
        "--workers", "2", "--listen", first.target, SESSIOND_DATABASE_URL=database_url
    )
    with Client(again.target) as client:
        assert client.resume_session("one").session_id == "one"


def test_workers_take_over_the_port_of_a_single_process(
    database_url: str, start_server: Start
) -> None:
    """They do so even while a connection that the former server closed is in TIME_WAIT."""
    first = start_server("--drain-timeout-s", "0", SESSIOND_DATABASE_URL=database_url)
    host, _, port = first.target.rpartition(":")
    with socket.create_connection((host, int(port))) as client:
        assert first.terminate() == 0
        client.recv(65536)
    again = start_server(
        "--workers", "2", "--listen", first.target, SESSIOND_DATABASE_URL=database_url
    )
    with Client(again.target) as client:
        assert client.create_session("one").session_id == "one"


def test_workers_that_cannot_start_end_the_server(database_url: str, tmp_path: Path) -> None:
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("this is not PEM\n")
    tls = ("--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"))
    done = serve(
        "--workers", "2", "--listen", "127.0.0.1:0", *tls, SESSIOND_DATABASE_URL=database_url
    )
    assert done.returncode == 1
    assert not done.stdout
    assert "workers die as soon as they start" in done.stderr


def test_a_unix_socket_takes_one_process(database_url: str, tmp_path: Path) -> None:
    done = serve(
        "--workers", "2", "--listen", f"unix:{tmp_path}/socket", SESSIOND_DATABASE_URL=database_url
    )
    assert done.returncode == 1
    assert "several workers share a TCP port" in done.stderr


def test_a_worker_that_prints_much_serves(
    database_url: str, start_server: Start, tmp_path: Path
) -> None:
    """The output exceeds the buffer of a pipe, so the worker would block if nobody read it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'sessiond_server.workers' in sys.orig_argv:\n"
        "    for _ in range(1024):\n"
        "        print('x' * 1023)\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    server = start_server("--workers", "2", SESSIOND_DATABASE_URL=database_url, PYTHONPATH=path)
    with Client(server.target) as client:
        assert client.create_session("one").session_id == "one"
    assert server.terminate() == 0
    assert server.log.read_text().count("x" * 1023) == 2048
