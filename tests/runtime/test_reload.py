"""SIGHUP reloads certificates, the log level and providers, without ending a call or stream."""

import asyncio
import signal
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sessiond import AsyncClient, Client

from ..support.processes import ServerProcess
from ..support.waiting import until

Start = Callable[..., ServerProcess]


def certify(directory: Path) -> tuple[Path, Path]:
    """Make a new certificate for localhost, and its key."""
    cert, key = directory / "cert.pem", directory / "key.pem"
    try:
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
                *("-keyout", str(key), "-out", str(cert)),
            ],
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("openssl is not here to make a certificate")
    return cert, key


def hang_up(server: ServerProcess, logged: str, times: int = 1) -> None:
    """Send SIGHUP, and wait until the log has `times` more lines of this event."""
    before = server.log.read_text().count(f'"{logged}"')
    server.process.send_signal(signal.SIGHUP)
    until(
        lambda: server.log.read_text().count(f'"{logged}"') == before + times, f"{logged} is logged"
    )


def served(target: str) -> str:
    host, _, port = target.rpartition(":")
    return ssl.get_server_certificate((host, int(port)))


async def test_a_reload_ends_no_stream_and_serves_the_new_certificate(
    database_url: str, start_server: Start, tmp_path: Path
) -> None:
    cert, key = certify(tmp_path)
    config = tmp_path / "sessiond.toml"
    config.write_text('log_level = "info"\nlog_format = "json"\n')
    server = await asyncio.to_thread(
        start_server,
        *("--config", str(config), "--tls-cert", str(cert), "--tls-key", str(key)),
        SESSIOND_DATABASE_URL=database_url,
    )
    port = server.target.rpartition(":")[2]
    first = cert.read_text()
    async with AsyncClient(f"localhost:{port}", tls=str(cert)) as client, asyncio.timeout(120):
        session = await client.create_session("one")
        events = aiter(session.events(after_seq=0))
        await session.store_message({"role": "user", "content": "before"})
        assert (await anext(events)).seq == 1
        assert served(server.target) == first
        certify(tmp_path)
        config.write_text('log_level = "debug"\nlog_format = "json"\n')
        await asyncio.to_thread(hang_up, server, "reloaded")
        assert served(server.target) == cert.read_text() != first
        await session.store_message({"role": "user", "content": "after"})
        # The watcher still uses the stream that it opened before.
        assert (await anext(events)).seq == 2
        log = server.log.read_text()
        assert '"level": "debug"' in log
        assert log.count('"method": "Watch"') == 0
        key.write_text("this is no key\n")
        await asyncio.to_thread(hang_up, server, "certificate_not_reloaded")
        assert served(server.target) == cert.read_text()
        config.write_text("log_level = 7\n")
        await asyncio.to_thread(hang_up, server, "reload_failed")
        await session.refresh()
    assert await asyncio.to_thread(server.terminate) == 0


def test_every_worker_reloads(database_url: str, start_server: Start, tmp_path: Path) -> None:
    config = tmp_path / "sessiond.toml"
    config.write_text('log_format = "json"\nworkers = 2\n')
    server = start_server("--config", str(config), SESSIOND_DATABASE_URL=database_url)
    config.write_text(
        'log_format = "json"\nworkers = 3\n[providers.own]\ntype = "echo"\nmodels = ["own-*"]\n'
    )
    hang_up(server, "reloaded", times=2)
    assert '"settings": ["workers"]' in server.log.read_text()
    with Client(server.target) as client:
        answer = client.create_session(model="own-1").send_and_wait("Hello")
    assert "Hello" in answer.content
    assert server.terminate() == 0
