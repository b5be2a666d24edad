"""Measures how large model requests slow other calls: `python benchmarks/large_requests.py`.

One session has forty assets of 8 MB, so its turns are refused. A second session has fewer assets,
and its turns send requests of 200 MB. A separate process starts these turns. Meanwhile another
client appends to another session, one message after the other. The program prints the latencies of
these appends, those of an idle server in the same run, and the growth of the server's memory. It
needs no model: a process of this file receives the requests.
"""

import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from database import databases
from serving import migrate, serve

from sessiond import AsyncClient
from sessiond.errors import ContextTooLarge

ASSETS = 40
SENT_ASSETS = 18  # of 8 MB: a request of about 200 MB
ASSET_BYTES = 8_000_000
# The session is rewound after this many turns. Otherwise its history would become so long that
# requests leave out the oldest messages, which are the messages with the assets.
REWIND_AFTER = 1_000
MEASURE_S = float(os.environ.get("MEASURE_S", "10"))
PNG = b"\x89PNG\r\n\x1a\n"


async def main() -> None:
    """Run the measurement and print its figures."""
    with databases() as made, _model() as model, tempfile.TemporaryDirectory() as assets:
        migrate(made.sessiond_url)
        provider = {"type": "openai", "base_url": model, "models": ["big"], "is_openai": True}
        settings = {
            "SESSIOND_PROVIDERS": json.dumps({"big": provider}),
            "SESSIOND_ASSET_STORE": assets,
            "SESSIOND_MAX_MODEL_REQUEST_BYTES": str(256 * 1024 * 1024),
        }
        with serve(made.sessiond_url, settings) as served:
            async with AsyncClient(served.target) as client:
                await _measure(client, served.pid)


async def _measure(client: AsyncClient, pid: int) -> None:
    full, sent = await _session(client, ASSETS), await _session(client, SENT_ASSETS)
    other = await client.create_session()
    await _appends(other, asyncio.sleep(1.0))
    _print("idle", await _appends(other, asyncio.sleep(MEASURE_S)))
    _print("beside another appender", await _appends(other, _more(client.target)))
    for name, session, pause_s in (
        ("refused, some 20 a second", full, 0.04),
        ("refused, without a pause", full, 0.0),
        ("sent", sent, 0.0),
    ):
        before = _reset_peak_mib(pid)
        sender = await _sender(client.target, session.session_id, pause_s)
        times = await _appends(other, _finish(sender))
        _print(f"while requests are {name}", times)
        print(f"  memory of the server: +{_memory_mib(pid, 'VmHWM') - before:.1f} MiB")


async def _session(client: AsyncClient, count: int) -> Any:
    session = await client.create_session(model="big")
    for number in range(count):
        content = PNG + number.to_bytes(4, "big") + os.urandom(ASSET_BYTES)
        asset = await client.assets.upload(content, media_type="image/png")
        part = {"type": "image_url", "image_url": {"url": asset.uri}}
        await session.store_message({"role": "user", "content": [part]})
    return session


async def _more(target: str) -> None:
    # These appends need their own client, because one client would send the appends of both
    # sessions in joint batches.
    async with AsyncClient(target) as client:
        session = await client.create_session()
        end = time.monotonic() + MEASURE_S
        while time.monotonic() < end:
            await session.store_message({"role": "user", "content": "hello"})


async def _sender(target: str, session_id: str, pause_s: float) -> asyncio.subprocess.Process:
    """Start a process that sends for MEASURE_S, and wait until it begins."""
    # In this process, the appends would also wait for the sender's code.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "sender", target, session_id, str(pause_s)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    await process.stdout.readline()
    return process


async def _finish(sender: asyncio.subprocess.Process) -> None:
    output, _ = await sender.communicate()
    if sender.returncode:
        raise RuntimeError("the sender has failed; its output above says why")
    print(output.decode(), end="", flush=True)


async def _send(target: str, session_id: str, pause_s: str) -> None:
    async with AsyncClient(target) as client:
        session = await client.get_session(session_id)
        last_seq = (await session.refresh()).last_seq
        print("begin", flush=True)
        end, count = time.monotonic() + MEASURE_S, 0
        while time.monotonic() < end:
            with suppress(ContextTooLarge):
                await session.send_and_wait("What is on them?", timeout=120)
            count += 1
            await asyncio.sleep(float(pause_s))
            if count % REWIND_AFTER == 0:
                await session.rewind(to_seq=last_seq)
    print(f"{count} turns", flush=True)


async def _appends(session: Any, meanwhile: Awaitable[None]) -> list[float]:
    """Append until `meanwhile` is done. Returns the duration of each append in seconds."""
    times: list[float] = []
    task = asyncio.ensure_future(meanwhile)
    while not task.done():
        begin = time.perf_counter()
        await session.store_message({"role": "user", "content": "hello"})
        times.append(time.perf_counter() - begin)
        await asyncio.sleep(0.002)
    await task
    return times


def _reset_peak_mib(pid: int) -> float:
    """Reset the peak memory (VmHWM) of a process. Returns its present memory in MiB."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return _memory_mib(pid, "VmRSS")


def _memory_mib(pid: int, field: str) -> float:
    """Return VmRSS (current) or VmHWM (peak) of a process, in MiB."""
    found = re.search(rf"{field}:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


def _print(what: str, times: list[float]) -> None:
    cuts = statistics.quantiles(times, n=100)
    p50, p99, worst = (1000 * s for s in (cuts[49], cuts[98], max(times)))
    print(
        f"{what}: {len(times)} appends, p50 {p50:.2f}, p99 {p99:.2f}, longest {worst:.2f} ms",
        flush=True,
    )


@contextmanager
def _model() -> Iterator[str]:
    """Run the model in a process of its own. Yields its base URL."""
    process = subprocess.Popen([sys.executable, __file__, "model"], stdout=subprocess.PIPE)
    try:
        assert process.stdout
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.terminate()
        process.wait()


class _Model(BaseHTTPRequestHandler):
    """A server that reads a request of any size, and answers with one word."""

    def do_POST(self) -> None:
        left = int(self.headers["Content-Length"])
        while left:
            left -= len(self.rfile.read(min(left, 2**20)))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        delta = {"index": 0, "delta": {"content": "yes"}, "finish_reason": "stop"}
        self.wfile.write(f"data: {json.dumps({'choices': [delta]})}\n\ndata: [DONE]\n\n".encode())

    def log_message(self, *_: object) -> None:
        """Print nothing."""


if __name__ == "__main__":
    if sys.argv[1:] == ["model"]:
        server = HTTPServer(("127.0.0.1", 0), _Model)
        print(server.server_port, flush=True)
        server.serve_forever()
    elif sys.argv[1:2] == ["sender"]:
        asyncio.run(_send(*sys.argv[2:]))
    else:
        asyncio.run(main())
