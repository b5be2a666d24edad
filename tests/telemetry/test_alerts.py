"""Each alert fires only while its fault lasts, and has a runbook."""

import asyncio
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sessiond_server.core.supervision import supervise
from sessiond_server.server import Running
from sessiond_server.settings import Settings
from sessiond_server.telemetry import metrics

from ..support.locks import LOCKS_LAST
from ..support.metrics import Scrape, here
from ..support.model_server import ModelServer, Reply
from ..support.processes import ServerProcess
from ..support.promtool import RULES, firing, needs_promtool
from ..support.queues import lease_one
from ..support.turns import sending
from ..support.waiting import PATIENCE_S, until_async
from ..support.wire import Wire, error_of

ROOT = RULES.parents[2]
RUNBOOKS = ROOT / "docs/runbooks"
ALERTS = re.findall(r"- alert: (\w+)\n", RULES.read_text("utf-8"))
Query = Callable[..., list[tuple[Any, ...]]]

pytestmark = needs_promtool


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def settings(settings: Settings, models: ModelServer, request: pytest.FixtureRequest) -> Settings:
    fake = {"type": "openai", "base_url": models.openai_url, "models": ["fake-*"]}
    changed = {
        "providers": {"fake": fake},
        "pool_size": 2,
        "pool_timeout_s": 0.5,
        "max_running_turns": 1,
        **getattr(request, "param", {}),
    }
    return Settings(**(settings.model_dump() | changed))  # type: ignore[arg-type]


class Watched:
    """Scrapes around a fault in this process."""

    def __init__(self, server: Running, directory: Path) -> None:
        self._server = server
        self._directory = directory
        self.before = here()

    async def scrape(self) -> Scrape:
        await self._server.sampler.sample()
        with suppress(Exception):  # the database may be down
            await self._server.sampler.sample_backlog()
        return here()

    async def alerts(self) -> set[str]:
        """Return the alerts that fire if the change since the last call continues."""
        before, self.before = self.before, await self.scrape()
        # The server runs in this event loop, and must not stand still meanwhile.
        return await asyncio.to_thread(firing, before, self.before, self._directory)


@pytest.fixture
async def watched(server: Running, wire: Wire, tmp_path: Path) -> Watched:
    await wire.create("s")
    # Remove the gauges of earlier tests.
    for gauge in (metrics.CERTIFICATE, metrics.DISK_FREE, metrics.DISK_SIZE):
        gauge.clear()
    made = Watched(server, tmp_path)
    made.before = await made.scrape()
    return made


@contextmanager
def database_away(postgres: str, database_url: str) -> Iterator[None]:
    """Refuse new connections to a database, and cut the existing ones."""
    name = str(conninfo_to_dict(database_url)["dbname"])
    with psycopg.connect(make_conninfo(postgres), autocommit=True) as connection:

        def allow(is_allowed: bool) -> None:
            statement = "ALTER DATABASE {} ALLOW_CONNECTIONS {}"
            connection.execute(
                sql.SQL(statement).format(sql.Identifier(name), sql.Literal(is_allowed))
            )

        allow(False)
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        try:
            yield
        finally:
            allow(True)


async def test_nothing_fires_while_nothing_is_at_fault(watched: Watched, wire: Wire) -> None:
    await wire.store("s", "stored")
    # The following alerts may fire without a fault, if the machine is busy.
    slow = {"SessiondEventLoopSlow", "SessiondEventsLate", "SessiondAppendsSlow"}
    assert await watched.alerts() <= slow


async def test_the_database_is_away(
    watched: Watched, server: Running, wire: Wire, postgres: str, database_url: str
) -> None:
    with database_away(postgres, database_url):
        await until_async(lambda: here().value("sessiond_notice_listeners") == 0, "it is noticed")
        for _ in range(3):
            await error_of(wire.store("s", "lost"))

        async def is_noticed() -> bool:
            return (await watched.scrape()).value("sessiond_ready") == 0

        while not await is_noticed():
            await asyncio.sleep(0.05)
        assert {"SessiondNotReady", "SessiondAppendErrors", "SessiondNotListening"} <= (
            await watched.alerts()
        )

    # As the runbook says, the server recovers without a restart.
    async def is_well() -> bool:
        scraped = await watched.scrape()
        return bool(scraped.value("sessiond_ready") and scraped.value("sessiond_notice_listeners"))

    while not await is_well():
        await asyncio.sleep(0.05)
    watched.before = here()
    await wire.store("s", "stored")
    assert not await watched.alerts() & {"SessiondNotReady", "SessiondAppendErrors"}


@LOCKS_LAST
async def test_a_lock_makes_appends_slow(
    watched: Watched, wire: Wire, database_url: str, query: Query
) -> None:
    with suppress(psycopg.Error), psycopg.connect(database_url) as holder:
        holder.execute("SELECT FROM sessions FOR UPDATE")
        append = asyncio.ensure_future(wire.store("s", "late"))
        found: list[tuple[Any, ...]] = []

        def is_blocked() -> bool:
            found[:] = query(blockers("appends-slow"))
            return bool(found)

        await until_async(is_blocked, "the runbook's statement names the holder")
        await asyncio.sleep(0.06)  # the append has to take longer than the objective of 50 ms
        query("SELECT pg_terminate_backend(%s::int)", (found[0][0],))
        await append
    assert "SessiondAppendsSlow" in await watched.alerts()
    await wire.store("s", "fast")
    assert "SessiondAppendErrors" not in await watched.alerts()


def blockers(page: str) -> str:
    """Return the statement of a runbook."""
    [found] = re.findall(r"```sql\n(.*?)```", (RUNBOOKS / f"{page}.md").read_text(), re.DOTALL)
    return found.rstrip().rstrip(";")


async def test_a_notification_is_late(watched: Watched, query: Query) -> None:
    count = "sessiond_notice_lag_seconds_count"
    known = here().value(count)
    sent_at = time.time() - 5
    query(
        "SELECT pg_notify('sessiond', %s)",
        (f'{{"from": "another", "at": {sent_at}, "items": []}}',),
    )
    await until_async(lambda: here().value(count) > known, "it has arrived")
    assert "SessiondEventsLate" in await watched.alerts()


def test_a_server_is_down(tmp_path: Path) -> None:
    assert firing(here(), here(), tmp_path, is_up=False) == {"SessiondDown"}


async def test_a_column_is_missing(watched: Watched, wire: Wire, query: Query) -> None:
    query("ALTER TABLE sessions RENAME COLUMN title TO subtitle")
    await error_of(wire.get("s"))
    assert "SessiondInternalErrors" in await watched.alerts()
    query("ALTER TABLE sessions RENAME COLUMN subtitle TO title")
    await wire.get("s")
    assert "SessiondInternalErrors" not in await watched.alerts()


async def test_more_calls_come_than_are_allowed(
    watched: Watched, server: Running, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.admission, "_max_calls", 0)
    for _ in range(30):
        assert (await error_of(wire.get("s"))).reason == "OVERLOADED"
    assert "SessiondOverloaded" in await watched.alerts()
    monkeypatch.undo()
    await wire.get("s")
    assert "SessiondOverloaded" not in await watched.alerts()


async def test_all_connections_are_taken(watched: Watched, server: Running) -> None:
    async def wait() -> None:
        async with server.database._pool.connection(timeout=PATIENCE_S):
            pass

    async with server.database.connection(), server.database.connection():
        waiting = asyncio.ensure_future(wait())
        await until_async(
            lambda: server.database.pool_stats().get("requests_waiting", 0) > 0, "a caller waits"
        )
        assert "SessiondPoolExhausted" in await watched.alerts()
    await waiting
    assert "SessiondPoolExhausted" not in await watched.alerts()


async def test_something_blocks_the_event_loop(watched: Watched) -> None:
    lag = "sessiond_event_loop_lag_seconds"

    def late() -> float:
        return here().value(f"{lag}_count") - here().value(f"{lag}_bucket", le="0.5")

    known = late()
    while late() == known:
        time.sleep(1.6)  # noqa: ASYNC251 - the fault
        await asyncio.sleep(0)
    watched.before = Scrape({})
    assert "SessiondEventLoopSlow" in await watched.alerts()


async def test_a_background_loop_fails(watched: Watched) -> None:
    async def fail() -> None:
        raise RuntimeError("a bug")

    known = here().value("sessiond_background_failures_total", loop="broken")
    task = asyncio.create_task(supervise("broken", fail))
    await until_async(
        lambda: here().value("sessiond_background_failures_total", loop="broken") > known + 2,
        "it has failed three times",
    )
    task.cancel()
    assert "SessiondBackgroundFailing" in await watched.alerts()
    assert "SessiondBackgroundFailing" not in await watched.alerts()


async def test_a_disk_fills(
    watched: Watched, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        full = shutil._ntuple_diskusage(total=1000, used=950, free=50)
        patched.setattr(shutil, "disk_usage", lambda _: full)
        server.sampler.sample_files()
    assert "SessiondDiskFilling" in await watched.alerts()
    roomy = shutil._ntuple_diskusage(total=1000, used=50, free=950)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: roomy)
    server.sampler.sample_files()
    assert "SessiondDiskFilling" not in await watched.alerts()


async def test_a_certificate_expires(
    watched: Watched, server: Running, settings: Settings, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, certificate: Callable[[int], Path],
) -> None:  # fmt: skip
    for days, fires in ((300, False), (13, True)):
        changed = settings.model_copy(update={"tls_cert": certificate(days)})
        monkeypatch.setattr(server.sampler, "_settings", changed)
        server.sampler.sample_files()
        assert ("SessiondCertificateExpiring" in await watched.alerts()) is fires


@pytest.mark.parametrize("settings", [{"turn_lease_s": 0.5}], indirect=True)
async def test_a_server_that_runs_a_turn_is_killed(
    watched: Watched,
    models: ModelServer,
    start_server: Callable[..., ServerProcess],
    database_url: str,
    wire: Wire,
    query: Query,
) -> None:
    models.script(Reply("never", after=0, then="hold"))
    fake = {"type": "openai", "base_url": models.openai_url, "models": ["fake-*"]}
    other = start_server(
        SESSIOND_DATABASE_URL=database_url, SESSIOND_PROVIDERS=json.dumps({"fake": fake})
    )
    async with grpc.aio.insecure_channel(other.target) as channel:
        await sending(Wire(channel), "s", "hello", model="fake-1")
        await asyncio.to_thread(models.wait_until_held)
    lost = here().value("sessiond_turns_lost_total")
    other.kill()
    query("UPDATE turns SET lease_until = now() - interval '1 second'")
    await until_async(lambda: here().value("sessiond_turns_lost_total") > lost, "it is recovered")
    assert "SessiondTurnsLost" in await watched.alerts()
    assert "SessiondTurnsLost" not in await watched.alerts()


async def test_all_slots_of_turns_are_taken(
    watched: Watched, models: ModelServer, wire: Wire
) -> None:
    await wire.create("t")
    models.script(Reply("late", after=0, then="hold"))
    first = await sending(wire, "s", "hello", model="fake-1")
    second = await sending(wire, "t", "hello", model="fake-1")
    await asyncio.to_thread(models.wait_until_held)
    assert "SessiondTurnsWaiting" in await watched.alerts()
    models.release()
    await first.end()
    await second.end()
    assert "SessiondTurnsWaiting" not in await watched.alerts()


async def test_no_worker_takes_the_messages_of_a_queue(
    watched: Watched, wire: Wire, query: Query
) -> None:
    await wire.store("s", "one")
    await lease_one(wire, "stalled")
    query("UPDATE processing SET ready_at = now() - interval '1 hour', lease_until = NULL")
    assert "SessiondQueueStalled" in await watched.alerts()
    query("DELETE FROM processing")
    assert "SessiondQueueStalled" not in await watched.alerts()


async def test_the_purger_is_behind(
    watched: Watched, server: Running, database_url: str, query: Query, purger: Any
) -> None:
    query(
        "INSERT INTO dead_logs (key, log, queued_at) "
        "VALUES (gen_random_uuid(), gen_random_uuid(), now() - interval '2 hours')"
    )
    with psycopg.connect(database_url) as holder:
        holder.execute("SELECT FROM dead_logs FOR UPDATE")
        await purger.round()
        assert "SessiondPurgeBehind" in await watched.alerts()
    await purger.round()
    assert "SessiondPurgeBehind" not in await watched.alerts()


def test_each_alert_has_a_runbook_and_a_fault() -> None:
    """The runbook's heading is the alert's name, and this file names each alert."""
    links = re.findall(
        r"- alert: (\w+)\n.*?runbook_url: \S+/runbooks/([\w-]+)/", RULES.read_text(), re.DOTALL
    )
    assert [name for name, _ in links] == ALERTS
    for alert, page in links:
        assert (RUNBOOKS / f"{page}.md").read_text("utf-8").startswith(f"# {alert}\n")
        assert f'"{alert}"' in Path(__file__).read_text("utf-8")
    assert {f"{page}.md" for _, page in links} | {"index.md"} == {
        path.name for path in RUNBOOKS.iterdir()
    }
