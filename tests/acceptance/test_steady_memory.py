"""The memory of a server does not grow during an hour of even load.

SESSIOND_SOAK_S is the duration in seconds, and SESSIOND_SOAK_SERIES names a file for the samples.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import psutil
import psycopg
import pytest

from ..support.metrics import get
from ..support.mixed_load import MixedLoad
from ..support.model_server import ModelServer
from ..support.processes import ServerProcess, free_port

Start = Callable[..., ServerProcess]
# One row per sample: the process, and its memory in bytes.
Sample = Mapping[str, float | str]

SOAK_S = float(os.environ.get("SESSIOND_SOAK_S", "3600"))
# The first sixth of the time, ten minutes of an hour, fills pools and caches. Each window is a
# sixth as well.
WINDOW_S = SOAK_S / 6
INTERVAL_S = min(30.0, WINDOW_S / 10)
MAX_GROWTH = 1.05

FLAGS = (
    "--workers=2",
    "--pool-size=8",
    "--require-keys",
    "--tokenizer=estimate",
    "--log-level=warning",
    # Short retention of page caches, request ids and files without references, so that they reach
    # their level in the first window.
    "--page-cache-bytes=4194304",
    "--request-id-retention-s=60",
    "--asset-grace-s=5",
)


class Memory:
    """Samples the memory of a server's processes, and of their connections' backends.

    Args:
        server: the server.
        database_url: the server's database.
        series: the file that gets each sample as a line of JSON.
    """

    def __init__(self, server: ServerProcess, database_url: str, series: Path) -> None:
        self.samples: list[Sample] = []
        self._server = psutil.Process(server.process.pid)
        self._database_url = database_url
        self._series = series
        self._began = time.monotonic()
        self._processes = [self._server, *self._server.children(recursive=True)]

    def take(self) -> None:
        """Take one sample of each process."""
        elapsed = round(time.monotonic() - self._began, 1)
        rows: list[Sample] = []
        for process in self._processes:
            memory, times = process.memory_full_info(), process.cpu_times()
            rows.append(
                {
                    "s": elapsed,
                    "process": f"{process.pid} {' '.join(process.cmdline()[1:4])}",
                    "rss": memory.rss,
                    "pss": memory.pss,
                    "uss": memory.uss,
                    "threads": process.num_threads(),
                    "files": process.num_fds(),
                    "cpu_s": round(times.user + times.system, 1),
                }
            )
        self.samples += rows
        with self._series.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in [*rows, self._backends(elapsed)])

    def growth(self, measure: str) -> dict[str, float]:
        """Return, by process, the ratio of the medians of the last and the second window."""
        end = max(float(sample["s"]) for sample in self.samples)
        growth = {}
        for process in {str(sample["process"]) for sample in self.samples}:
            own = [sample for sample in self.samples if sample["process"] == process]
            early = [s[measure] for s in own if WINDOW_S <= float(s["s"]) <= 2 * WINDOW_S]
            late = [s[measure] for s in own if float(s["s"]) >= end - WINDOW_S]
            growth[process] = median(map(float, late)) / median(map(float, early))
        return growth

    def _backends(self, elapsed: float) -> Sample:
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            rows = connection.execute(
                "SELECT pid, pg_database_size(current_database()) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchall()
        own = 0
        for pid, _ in rows:
            try:
                own += psutil.Process(pid).memory_full_info().uss
            except psutil.Error:
                # The process has ended meanwhile, or runs as another user or on another machine.
                continue
        return {
            "s": elapsed,
            "process": f"{len(rows)} backends",
            "uss": own,
            "database_bytes": rows[0][1] if rows else 0,
        }


@pytest.mark.slow
@pytest.mark.timeout(SOAK_S * 1.2 + 300)
async def test_memory_stays_flat_under_a_mixed_load(
    start_server: Start, database_url: str, tmp_path: Path
) -> None:
    series = Path(os.environ.get("SESSIOND_SOAK_SERIES", tmp_path / "memory.jsonl"))
    environment = {"SESSIOND_DATABASE_URL": database_url}
    key = await asyncio.to_thread(_made_key, environment)
    metrics = f"127.0.0.1:{free_port()}"
    with ModelServer() as models:
        provider = {"type": "openai", "base_url": models.openai_url, "models": ["fake-*"]}
        server = await asyncio.to_thread(
            start_server,
            *FLAGS,
            f"--metrics-listen={metrics}",
            SESSIOND_PROVIDERS=json.dumps({"fake": provider}),
            **environment,
        )
        load = MixedLoad(server.target, key, "fake-1")
        load.start()
        memory = Memory(server, database_url, series)
        end = time.monotonic() + SOAK_S
        while (left := end - time.monotonic()) > 0:
            await load.run(min(INTERVAL_S, left))
            await asyncio.to_thread(memory.take)
            assert (await asyncio.to_thread(get, metrics, "/metrics"))[0] == 200
            models.requests.clear()
        await load.stop()
    growth = {measure: memory.growth(measure) for measure in ("rss", "uss")}
    print(dict(load.done), json.dumps(growth, indent=1), server.log.read_text()[-2000:], sep="\n")
    for measure, by_process in growth.items():
        assert all(grown <= MAX_GROWTH for grown in by_process.values()), f"{measure}: {by_process}"


def _made_key(environment: Mapping[str, str]) -> str:
    made = subprocess.run(
        [sys.executable, "-m", "sessiond_server", "keys", "create", "--project", "soak"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout.strip()
