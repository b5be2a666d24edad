"""PgBouncer in transaction mode: the server detects it, adapts to it, and migrates through it."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import psycopg
import pytest
from psycopg import sql

from sessiond_server.db import migrate
from sessiond_server.db.pool import Database, DatabaseUnavailable
from sessiond_server.server import Running, serving
from sessiond_server.settings import Settings
from sessiond_server.watch import hub

from ..support.outages import set_read_only, terminate_all
from ..support.pgbouncer import pgbouncer
from ..support.turns import sending
from ..support.waiting import PATIENCE_S, until_async
from ..support.watching import seqs, watching
from ..support.wire import Wire
from ..turns.live_texts import Page

READERS = "SELECT count(*) FROM notice_readers"
NOTICES = "SELECT count(*) FROM notices"

Query = Callable[..., list[tuple[object, ...]]]


@pytest.fixture
def pooled_url(database_url: str) -> Iterator[str]:
    """The test's database, through PgBouncer."""
    with pgbouncer(database_url) as url:
        yield url


@asynccontextmanager
async def connected(settings: Settings, url: str) -> AsyncIterator[tuple[Wire, Running]]:
    async with (
        serving(settings, url) as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        yield Wire(channel), running


@pytest.fixture
def unpolled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the poll, so that other servers' events arrive only by notifications."""
    monkeypatch.setattr(hub, "POLL_S", 3600)


@pytest.fixture
async def two(
    settings: Settings, pooled_url: str, unpolled: None
) -> AsyncIterator[tuple[Wire, Wire]]:
    """Two servers behind PgBouncer, with the settings that servers have by default."""
    async with (
        connected(settings, pooled_url) as (one, _),
        connected(settings, pooled_url) as (other, _),
    ):
        yield one, other


async def test_concurrent_calls_of_two_servers_with_default_settings_succeed(
    two: tuple[Wire, Wire],
) -> None:
    async def work(number: int) -> None:
        wire, session = two[number % 2], f"s{number % 7}"
        for i in range(10):
            await wire.store(session, f"{number} {i}")
            await wire.read(session)
            await wire.list(user="nobody")

    for number in range(7):
        await two[0].create(f"s{number}")
    await asyncio.gather(*(work(number) for number in range(28)))
    assert sum([len(await two[0].read(f"s{number}")) for number in range(7)]) == 280


async def test_messages_of_another_server_arrive_by_notices(two: tuple[Wire, Wire]) -> None:
    one, other = two
    await one.create("one")
    watcher = await watching(other, "one")
    for number in range(5):
        await one.store("one", f"{number}")
    assert seqs(await watcher.through(5)) == [1, 2, 3, 4, 5]


async def test_deltas_and_turn_events_of_another_server_arrive_whole(
    two: tuple[Wire, Wire],
) -> None:
    one, other = two
    await one.create("one", model="echo")
    watcher = await watching(other, "one")
    words = " ".join(str(number) for number in range(40))
    sent = await sending(
        one, "one", "hi", model="echo", options={"echo_text": words, "echo_delay_ms": 20}
    )
    types, page = [], Page()
    while "session.idle" not in types:
        event = await watcher.event()
        types.append(event.type)
        page.take([event])
    await sent.end()
    assert {
        "user.message",
        "assistant.turn_start",
        "assistant.message",
        "assistant.turn_end",
    } <= set(types)
    # The end of the text may arrive only as part of the message.
    assert words.startswith(page.text)
    assert types.count("assistant.message_delta") > 3


async def test_lifecycle_events_of_another_server_arrive(two: tuple[Wire, Wire]) -> None:
    one, other = two
    watcher = await watching(other)
    await one.create("one")
    await one.delete("one")
    seen = [(await watcher.event()).type for _ in range(2)]
    assert seen == ["session.created", "session.deleted"]


async def test_old_notices_are_removed_and_a_reader_that_ends_leaves_nothing(
    settings: Settings, pooled_url: str, query: Query
) -> None:
    async with connected(settings, pooled_url) as (wire, _):
        await until_async(lambda: query(READERS) == [(1,)], "a reader is there")
        await wire.create("one")
        await until_async(lambda: query(NOTICES) != [(0,)], "a notice is there")
        query("UPDATE notices SET sent_at = sent_at - interval '1 minute'")
        await until_async(lambda: query(NOTICES) == [(0,)], "the notice is removed")
    assert query(READERS) == [(0,)]


async def test_a_direct_address_to_listen_at_is_used_in_place_of_notices(
    settings: Settings, pooled_url: str, database_url: str, query: Query, unpolled: None
) -> None:
    listening = settings.model_copy(update={"listen_database_url": database_url})
    async with (
        connected(listening, pooled_url) as (one, _),
        connected(listening, pooled_url) as (other, _),
    ):
        statement = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sessiond listen'"
            " AND query LIKE 'LISTEN%' AND datname = current_database()"
        )
        await until_async(lambda: query(statement) == [(2,)], "both servers listen")
        await one.create("one")
        watcher = await watching(other, "one")
        await one.store("one", "hello")
        await watcher.through(1)
    assert query(NOTICES) == [(0,)]


async def test_without_the_direct_address_notices_are_read(
    settings: Settings, pooled_url: str, query: Query
) -> None:
    gone = settings.model_copy(update={"listen_database_url": "postgresql://127.0.0.1:1/x"})
    async with connected(gone, pooled_url):
        await until_async(lambda: query(READERS) == [(1,)], "a reader is there")


async def test_the_settings_of_sessions_are_kept_for_each_client(
    settings: Settings, pooled_url: str, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        for name, value in (("datestyle", "German, DMY"), ("timezone", "Pacific/Kiritimati")):
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET {} TO {}").format(
                    sql.Identifier(connection.info.dbname),
                    sql.Identifier(name),
                    sql.SQL(value) if name == "datestyle" else sql.Literal(value),
                )
            )
    with psycopg.connect(pooled_url, autocommit=True, prepare_threshold=None) as other:
        async with connected(settings, pooled_url) as (wire, _):
            created = await wire.create("one", user="u")
            for _ in range(5):
                assert other.execute("SHOW timezone").fetchall() == [("Pacific/Kiritimati",)]
                [listed] = await wire.list(user="u")
                assert listed.create_time == created.create_time
        # PgBouncer shares this setting between clients, so it must be reset.
        assert other.execute("SHOW plan_cache_mode").fetchall() == [("auto",)]


async def test_a_pooled_connection_to_a_database_that_is_read_only_is_refused(
    pooled_url: str, database_url: str
) -> None:
    set_read_only(database_url, "on")
    terminate_all(database_url)
    async with AsyncExitStack() as stack:
        database = Database(pooled_url, size=2, timeout_s=0.2)
        stack.push_async_callback(database.close)
        await database.open()
        with pytest.raises(DatabaseUnavailable):
            await database.ping()
        set_read_only(database_url, "off")
        terminate_all(database_url)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    await database.ping()
                except DatabaseUnavailable:
                    continue
                break


@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_the_mode_can_be_said(database_url: str, pooled_url: str, mode: str) -> None:
    has_session = mode == "session"
    # The setting overrides the result of detection.
    for url in (database_url, pooled_url):
        database = Database(url, has_session=has_session)
        await database.open()
        async with database.connection() as connection:
            assert (connection.prepare_threshold is not None) == has_session
        listening, can_listen = await database.connect_to_listen("test")
        await listening.close()
        assert can_listen == has_session
        await database.close()


async def test_three_migrations_at_once_run_through_pgbouncer(
    empty_database_url: str,
) -> None:
    with pgbouncer(empty_database_url) as url:
        runs = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "sessiond_server", "migrate", "--database-url", url,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
            for _ in range(3)
        ]  # fmt: skip
        async with asyncio.timeout(120):
            outputs = [(await run.communicate())[0].decode() for run in runs]
        assert [run.returncode for run in runs] == [0, 0, 0], outputs
        assert "Traceback" not in "".join(outputs)
    assert migrate.current(empty_database_url) == migrate.newest()
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_database ON database = pg_database.oid"
            " WHERE locktype = 'advisory' AND datname = current_database()"
        ).fetchone() == (0,)
