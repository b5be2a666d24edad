"""Copies concurrent with appends, deletions, flattening and the purger."""

import asyncio

import psycopg
import pytest

from sessiond_server.retention.purger import Purger
from sessiond_server.retention.store.purge import PurgeStore
from sessiond_server.server import Running
from sessiond_server.settings import Settings

from ..support.waiting import until_waiting
from ..support.wire import Wire, error_of
from .helpers import Query, said


class TestLocks:
    """Operations that must wait for each other. The test itself takes the lock of one of them."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"lock_timeout_s": 0})

    async def test_a_copy_waits_for_a_deletion(self, wire: Wire, database_url: str) -> None:
        await wire.create("one")
        with psycopg.connect(database_url) as blocker:
            blocker.execute("SELECT FROM sessions FOR UPDATE")
            copying = asyncio.ensure_future(wire.copy("one", "two"))
            await until_waiting(database_url)
            blocker.execute("DELETE FROM sessions")
            blocker.commit()
        assert (await error_of(copying)).reason == "SESSION_NOT_FOUND"

    async def test_a_copy_does_not_block_appends(self, wire: Wire, database_url: str) -> None:
        await wire.create("one")
        with psycopg.connect(database_url) as other:
            other.execute("SELECT FROM sessions FOR KEY SHARE")  # as a copy does
            await wire.store("one", "a")

    async def test_a_flattening_waits_for_a_deletion(
        self, wire: Wire, server: Running, purger: Purger, database_url: str
    ) -> None:
        await wire.create("c0")
        for i in range(20):
            await wire.store(f"c{i}", "x")
            await wire.copy(f"c{i}", f"c{i + 1}")
        with psycopg.connect(database_url) as blocker:
            blocker.execute("SELECT FROM sessions WHERE session_id = 'c20' FOR UPDATE")
            round_ = asyncio.ensure_future(purger.round())
            await until_waiting(database_url)
            blocker.execute(
                "DELETE FROM segments USING sessions s WHERE s.key = segments.key AND session_id "
                "= 'c20'"
            )
            blocker.execute("DELETE FROM sessions WHERE session_id = 'c20'")
            blocker.commit()
        await round_
        with psycopg.connect(database_url) as connection:
            assert connection.execute(
                "SELECT count(*) FROM messages m LEFT JOIN sessions s USING (key) WHERE s.key IS "
                "NULL"
            ).fetchone() == (0,)

    async def test_a_deletion_waits_for_the_purger_of_its_log(
        self, wire: Wire, database_url: str, query: Query
    ) -> None:
        """The purger removes a session's log from dead_logs, and the session's deletion adds it."""
        await wire.create("one")
        await wire.copy("one", "two")
        await wire.store("one", "a")
        await wire.copy("one", "three")
        await wire.delete("three")
        [(key,)] = query("SELECT key FROM sessions WHERE session_id = 'one'")
        with psycopg.connect(database_url) as purging:
            assert (
                purging.execute("SELECT FROM dead_logs WHERE key = %s FOR UPDATE", [key]).rowcount
                == 1
            )
            deleting = asyncio.ensure_future(wire.delete("one"))
            await until_waiting(database_url)
            purging.execute("DELETE FROM dead_logs WHERE key = %s", [key])
            purging.commit()
        await deleting
        assert query("SELECT count(*) FROM dead_logs WHERE key = %s", [key]) == [(1,)]

    async def test_logs_that_a_flattening_leaves_are_purged(
        self, wire: Wire, server: Running, purger: Purger, query: Query
    ) -> None:
        await wire.create("c0")
        for i in range(20):
            await wire.store(f"c{i}", "x")
            await wire.copy(f"c{i}", f"c{i + 1}")
        for i in range(20):
            await wire.delete(f"c{i}")
        logs = PurgeStore(server.database)
        while any(await logs.purge_logs(10, 1000)):
            pass
        assert query("SELECT count(*) FROM messages") == [(20,)]
        await purger.round()
        assert query("SELECT count(*), count(DISTINCT key) FROM messages") == [(20, 1)]


class TestPurge:
    async def test_messages_that_a_copy_reads_are_not_purged(
        self, wire: Wire, purger: Purger, query: Query
    ) -> None:
        await wire.create("one")
        await wire.store("one", *(f"{i}" for i in range(10)))
        await wire.copy("one", "two", up_to_seq=4)
        await wire.copy("one", "three", up_to_seq=7)
        await wire.delete("one")
        await purger.round()
        assert query("SELECT count(*), max(seq) FROM messages") == [(7, 7)]
        await wire.create("one")
        await wire.store("one", "another")
        await wire.delete("three")
        await purger.round()
        assert query("SELECT count(*) FROM messages") == [(5,)]
        assert said(await wire.read("two")) == ["0", "1", "2", "3"]
        assert said(await wire.read("one")) == ["another"]
        await wire.delete("two")
        await purger.round()
        assert query("SELECT count(*) FROM messages") == [(1,)]
        assert query(
            "SELECT (SELECT count(*) FROM segments), (SELECT count(*) FROM dead_logs)"
        ) == [(0, 0)]

    async def test_the_log_of_a_live_source_is_not_purged(
        self, wire: Wire, purger: Purger, query: Query
    ) -> None:
        await wire.create("one")
        await wire.store("one", "a", "b")
        await wire.copy("one", "two", up_to_seq=1)
        await wire.delete("two")
        await purger.round()
        assert said(await wire.read("one")) == ["a", "b"]
        assert query("SELECT count(*) FROM dead_logs") == [(0,)]

    async def test_segments_of_expired_copies_are_purged(
        self, wire: Wire, purger: Purger, query: Query
    ) -> None:
        await wire.create("one", idle_ttl_s=60)
        await wire.store("one", "a", "b")
        await wire.copy("one", "two")
        query(
            "UPDATE sessions SET used_at = now() - interval '1 hour', expiry_check_at = now() - "
            "interval '1 minute'"
        )
        await purger.round()
        for table in ("messages", "segments", "dead_logs", "sessions"):
            assert query(f"SELECT count(*) FROM {table}") == [(0,)], table


async def test_copies_under_fire_are_prefixes(wire: Wire) -> None:
    """16 writers append to one session while 16 others copy it."""
    await wire.create("one")
    await wire.store("one", "start")
    done = asyncio.Event()
    cuts: set[int] = set()

    async def write(writer: int) -> int:
        """Append until copies of different lengths exist. Returns the number of messages."""
        appends = 0
        while appends < 15 or len(cuts) < 5:
            await wire.store("one", *(f"{writer}.{appends}.{j}" for j in range(3)))
            appends += 1
        return 3 * appends

    async def copy_on(copier: int) -> list[str]:
        made = []
        while not done.is_set():
            copy = (await wire.copy("one")).session
            made.append(copy.session_id)
            cuts.add(copy.last_seq)
        return made

    copiers = [asyncio.create_task(copy_on(i)) for i in range(16)]
    written = sum(await asyncio.gather(*(write(i) for i in range(16))))
    done.set()
    copies = [session_id for made in await asyncio.gather(*copiers) for session_id in made]
    source = await wire.read("one")
    assert len(source) == written + 1
    for session_id in copies:
        session = await wire.get(session_id)
        read = await wire.read(session_id)
        assert read == source[: session.last_seq]
        assert session.content_bytes == sum(m.content_bytes for m in read)
        assert session.token_count == sum(m.token_count for m in read)
