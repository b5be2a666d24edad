"""The gateway as a process, and raw calls through it."""

import contextlib
import http.client
import json
import ssl
import struct
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.processes import free_port
from ..support.waiting import PATIENCE_S
from .programs import ROOT

GATEWAY = ROOT / "deploy" / "gateway" / "sessiond-gateway"
END_OF_STREAM = 2


@contextlib.contextmanager
def gateway(target: str, *flags: str, log: Path, ca: Path | None = None) -> Iterator[str]:
    """Run the gateway before a server, and yield its address: of https, if it has an authority."""
    with gateway_process(target, *flags, log=log, ca=ca) as (url, _):
        yield url


@contextlib.contextmanager
def gateway_process(
    target: str, *flags: str, log: Path, ca: Path | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run the gateway before a server, and yield its address and its process."""
    if not GATEWAY.exists():
        pytest.skip("the gateway is not built; `make languages` builds it, if Go is here")
    address = f"127.0.0.1:{free_port()}"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [str(GATEWAY), "-listen", address, "-target", target, *flags], stderr=stderr
        )
        try:
            url = (
                f"https://{address.replace('127.0.0.1', 'localhost')}"
                if ca
                else f"http://{address}"
            )
            until_healthy(url, process, ca)
            yield url, process
        finally:
            process.terminate()
            assert process.wait(PATIENCE_S) == 0, log.read_text()
    # The gateway's own failures have stack traces.
    assert "panic" not in log.read_text()


def until_healthy(url: str, process: subprocess.Popen[bytes], ca: Path | None) -> None:
    """Wait until the gateway serves."""
    context = ssl.create_default_context(cafile=str(ca)) if ca else None
    end = time.monotonic() + 60
    while True:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{url}/healthz", context=context) as answer,  # noqa: S310
        ):
            assert answer.read() == b"ok\n"
            return
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)


def post(url: str, method: str, request: dict[str, Any], **headers: str) -> tuple[int, Any]:
    """Call a method as curl does: with JSON, and without protocol headers."""
    asked = urllib.request.Request(  # noqa: S310
        f"{url}/sessiond.v1.{method}",
        json.dumps(request).encode(),
        {"content-type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(asked) as response:  # noqa: S310
            return response.status, json.load(response)
    except urllib.error.HTTPError as refused:
        with refused:
            text = refused.read()
            return refused.code, json.loads(text) if text.startswith(b"{") else text


def envelope(message: dict[str, Any] | bytes) -> bytes:
    """Return a message of a stream as the Connect protocol sends it."""
    encoded = message if isinstance(message, bytes) else json.dumps(message).encode()
    return struct.pack(">BI", 0, len(encoded)) + encoded


def connect_to(url: str) -> contextlib.closing[http.client.HTTPConnection]:
    """Return an HTTP/1.1 connection, to be closed."""
    return contextlib.closing(
        http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE_S)
    )


@contextlib.contextmanager
def stream(url: str, method: str, body: bytes) -> Iterator[Iterator[tuple[int, Any]]]:
    """Call a streaming method, and yield the flags and the JSON of what comes."""
    with connect_to(url) as connection:
        headers = {"content-type": "application/connect+json"}
        connection.request("POST", f"/sessiond.v1.{method}", body, headers)
        with connection.getresponse() as response:
            assert response.status == 200
            yield _envelopes(response)


def _envelopes(response: http.client.HTTPResponse) -> Iterator[tuple[int, Any]]:
    while head := response.read(5):
        flags, size = struct.unpack(">BI", head)
        yield flags, json.loads(response.read(size))


def end_of(url: str, method: str, body: bytes) -> Any:
    """Call a streaming method, and return its end."""
    with stream(url, method, body) as received:
        *_, (flags, end) = received
    assert flags == END_OF_STREAM
    return end


def reason_of(error: Any) -> str:
    """Return the reason of an error in JSON; empty if it has none."""
    details = error.get("details", [])
    return next((d["debug"]["reason"] for d in details if "reason" in d["debug"]), "")
