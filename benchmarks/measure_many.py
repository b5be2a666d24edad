"""Measurements of projects with many sessions: listings and deletions, with concurrent appends."""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from bench import Bench
from names import SESSIOND
from serving import serve

from sessiond import AsyncClient
from sessiond_server.core.ids import DEFAULT_PROJECT_ID, session_key, uuid7

PAGE_SIZE = 20
WRITERS = 16
DELETION_WRITERS = 4
PAUSE_MS = 5
IDLE_S = 5.0
POLL_S = 0.1
USERS = 20
DAYS = 90
NOW = datetime.now(UTC)

LISTINGS: dict[str, dict[str, Any]] = {
    "active_desc": {"order": "active_desc"},
    "active_asc": {"order": "active_asc"},
    "created_desc": {"order": "created_desc"},
    "created_asc": {"order": "created_asc"},
    "id_asc": {"order": "id_asc"},
    "user": {"user": "user-1"},
    "a user that nobody is": {"user": "nobody"},
    "metadata of 2 %": {"metadata_contains": {"bucket": 7}},
    "metadata that nobody has": {"metadata_contains": {"bucket": -1}},
    "a model that nobody has": {"model": "none"},
    "id prefix": {"session_id_prefix": "many-1"},
    "active before 80 days": {"active_before": NOW - timedelta(days=80)},
    "active from tomorrow": {"active_from": NOW + timedelta(days=1)},
    "created on one day": {
        "created_from": NOW - timedelta(days=60),
        "created_before": NOW - timedelta(days=59),
    },
}

_COPY = """
COPY sessions (key, project_id, session_id, log, state, model, user_name, metadata, last_seq,
    created_at, active_at, used_at) FROM STDIN"""
_MESSAGES = """
INSERT INTO messages (key, log, seq, role, format, content_bytes, created_at, body, total_bytes,
    total_tokens)
SELECT key, log, seq, 1, 1, 450, created_at, convert_to(repeat('x', 450), 'UTF8'), 450 * seq,
    100 * seq
FROM sessions, generate_series(1, last_seq) AS seq WHERE user_name = %s"""


def _fill(url: str, prefix: str, count: int, *, users: int, messages: int = 0) -> None:
    """Create sessions whose times are spread over DAYS, without the server.

    Args:
        url: the database.
        prefix: prefix of the session_ids.
        count: number of sessions.
        users: number of users, called user-0, user-1, ....
        messages: number of messages of each session of user-0.
    """
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        with cursor.copy(_COPY) as copy:
            for number in range(count):
                session_id = f"{prefix}-{number}"
                at = NOW - timedelta(days=DAYS) * number / count
                user = f"user-{number % users}"
                copy.write_row(
                    (
                        session_key(DEFAULT_PROJECT_ID, session_id),
                        DEFAULT_PROJECT_ID,
                        session_id,
                        uuid7(),
                        1,
                        "gpt",
                        user,
                        json.dumps({"bucket": number % 50, "number": number}),
                        messages if user == "user-0" else 0,
                        *[at] * 3,
                    )
                )
        if messages:
            cursor.execute(_MESSAGES, ["user-0"])


class Writers:
    """Appends by another process.

    Args:
        process: the process, which runs writers.py.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def since_last(self) -> dict[str, float]:
        """Return the number and percentiles of the appends since the last call."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(b"\n")
        found: dict[str, float] = json.loads(await self._process.stdout.readline())
        return found


@asynccontextmanager
async def _writing(target: str, name: str, writers: int) -> AsyncIterator[Writers]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(Path(__file__).with_name("writers.py"))),
        *(target, name, str(writers), str(PAUSE_MS)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Writers(process)
    finally:
        assert process.stdin
        process.stdin.close()
        await process.wait()


async def listing(bench: Bench) -> None:
    """Measure the first page of listings, on an idle server and during concurrent appends."""
    _fill(bench.databases.sessiond_url, "many", bench.sizes.listed, users=USERS)
    bench.databases.settle()
    with serve(bench.databases.sessiond_url, {}) as served:
        async with AsyncClient(served.target) as client:
            await _list(bench, client, "idle")
            name = f"writers-{next(bench.numbers)}"
            async with _writing(served.target, name, WRITERS) as writers:
                await writers.since_last()
                await _list(bench, client, "busy")


async def _list(bench: Bench, client: AsyncClient, state: str) -> None:
    for name, conditions in LISTINGS.items():
        took: list[float] = []
        for _ in range(bench.sizes.listings):
            began = time.perf_counter()
            pages = client.list_sessions(page_size=PAGE_SIZE, **conditions)
            async for _session in pages:
                break
            took.append(1000 * (time.perf_counter() - began))
        bench.results.add(f"list {name}, {state}", SESSIOND, "ms", statistics.median(took))


async def deletion(bench: Bench) -> None:
    """Measure a deletion by filter, the purge after it, and concurrent appends."""
    url, sizes = bench.databases.sessiond_url, bench.sizes
    for _ in range(sizes.heavy_rounds):
        prefix = f"deleted-{next(bench.numbers)}"
        _fill(url, prefix, sizes.deleted * 2, users=2, messages=sizes.deleted_messages)
        bench.databases.settle()
        with serve(url, {}) as served:
            async with (
                AsyncClient(served.target) as client,
                _writing(served.target, f"{prefix}-writer", DELETION_WRITERS) as writers,
            ):
                await asyncio.sleep(IDLE_S)
                await writers.since_last()
                await asyncio.sleep(IDLE_S)
                appends = {"idle": await writers.since_last()}
                began = time.perf_counter()
                deleted = await client.sessions.delete_many(user="user-0")
                took_s = time.perf_counter() - began
                appends["deletion"] = await writers.since_last()
                await _until_purged(url)
                purged_s = time.perf_counter() - began
                appends["purge"] = await writers.since_last()
                await client.sessions.delete_many(session_id_prefix=prefix)
                await _until_purged(url)
        count = deleted.session_count
        bench.results.add("sessions deleted", SESSIOND, "sessions/s", count / took_s)
        bench.results.add("sessions purged", SESSIOND, "sessions/s", count / purged_s)
        for state, found in appends.items():
            for percentile in ("p50", "p99"):
                bench.results.add(
                    f"append {percentile}, {state}", SESSIOND, "ms", found[percentile]
                )


async def _until_purged(url: str) -> None:
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    async with connection:
        while True:
            cursor = await connection.execute("SELECT EXISTS (SELECT FROM dead_logs)")
            if await cursor.fetchone() == (False,):
                return
            await asyncio.sleep(POLL_S)
