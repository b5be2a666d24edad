"""The console as a separate process: its flags, its address, its shutdown."""

import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from sessiond_console.command import address_of, run
from sessiond_console.flags import UsageError
from sessiond_server.cli import console_process
from sessiond_server.cli.console_process import target_of, with_address

from ..support.processes import ServerProcess, free_port
from ..support.waiting import PATIENCE_S


@contextmanager
def console(*flags: str, stderr: int | None = None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the console on a free port; yield its process and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sessiond_server", "console", "--listen", "localhost:0", *flags],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith("sessiond console on http://localhost:")
        yield process, line.split()[-1]
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)


def load(url: str) -> str:
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as response:  # noqa: S310
        return str(response.read().decode())


def test_the_console_serves_pages_of_a_server(
    start_server: Callable[..., ServerProcess], database_url: str
) -> None:
    server = start_server(SESSIOND_DATABASE_URL=database_url)
    with console("--target", server.target) as (process, url):
        assert load(f"{url}/healthz") == '{"status":"ok"}'
        assert "<h1>Sessions</h1>" in load(f"{url}/sessions")
        process.terminate()
        assert process.wait(PATIENCE_S) == 0


def test_the_console_ends_with_its_parent() -> None:
    with console("--until-eof", stderr=subprocess.PIPE) as (process, _):
        assert process.stdin
        assert process.stderr
        process.stdin.close()
        assert process.wait(PATIENCE_S) == 0
        # The process has ended without an error message.
        assert process.stderr.read() == ""
        process.stdin = None


def test_serve_starts_a_console_beside_it(
    start_server: Callable[..., ServerProcess], database_url: str
) -> None:
    port = free_port()
    server = start_server("--console", f"localhost:{port}", SESSIOND_DATABASE_URL=database_url)
    assert server.process.stdout
    assert server.process.stdout.readline() == f"sessiond console on http://localhost:{port}\n"
    assert "<h1>Sessions</h1>" in load(f"http://localhost:{port}/sessions")
    assert server.terminate() == 0
    with pytest.raises(OSError):
        load(f"http://localhost:{port}/healthz")


def test_serve_gives_the_default_address() -> None:
    default = console_process.DEFAULT_LISTEN
    assert with_address(["--console"]) == ["--console", default]
    assert with_address(["--console", "--workers", "2"]) == ["--console", default, "--workers", "2"]
    assert with_address(["--console", "h:1"]) == ["--console", "h:1"]


@pytest.mark.parametrize(
    ("listen", "target"),
    [
        ("localhost:0", "localhost:7"),
        ("0.0.0.0:0", "localhost:7"),
        ("[::]:0", "localhost:7"),
        ("10.0.0.5:50051", "10.0.0.5:7"),
        ("unix:/tmp/x", "unix:/tmp/x"),
    ],
)
def test_the_console_reaches_the_server_on_this_machine(listen: str, target: str) -> None:
    assert target_of(listen, 7) == target


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--listen", "0.0.0.0:0"], "--behind-https"),
        (["--listen", "8321"], "HOST:PORT"),
        (["--listen", "localhost:http"], "HOST:PORT"),
        (["--listen", "localhost:99999"], "HOST:PORT"),
        (["--cert", "x.pem"], "give both"),
        (["--cert", "x.pem", "--key", "x.key"], "--cert"),
        (["--tls-ca", "/nowhere.pem"], "--tls-ca"),
        (["--target", "https://x"], "target"),
        (["--timeout", "0"], "--timeout"),
    ],
)
def test_unusable_flags_are_named(
    flags: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with_port = flags if "--listen" in flags else ["--listen", "localhost:0", *flags]
    try:
        code = run(with_port)
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert says in capsys.readouterr().err


def test_a_port_in_use_is_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    with console() as (_, url):
        assert run(["--listen", url.removeprefix("http://")]) == 1
    assert "cannot listen on" in capsys.readouterr().err


def test_a_missing_library_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "sessiond_console.app", raising=False)
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    assert run([]) == 1
    assert "pip install 'sessiond[console]'" in capsys.readouterr().err


def test_addresses_are_parsed() -> None:
    assert address_of("[::1]:80") == ("::1", 80)
    with pytest.raises(UsageError):
        address_of(":80")
