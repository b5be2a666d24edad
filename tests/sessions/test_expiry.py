"""Expiry and purging. The tests move the times of rows into the past instead of waiting."""

from collections.abc import Callable

import psycopg
import pytest

from sessiond.v1.session_pb2 import Session
from sessiond_server.core.ids import DEFAULT_PROJECT_ID, session_key
from sessiond_server.messages.store.append import Append
from sessiond_server.messages.store.append_statements import STATEMENTS
from sessiond_server.messages.store.rows import Totals
from sessiond_server.retention.purger import Purger
from sessiond_server.retention.store.purge import PurgeStore
from sessiond_server.server import Running
from sessiond_server.settings import Settings

from ..support.wire import Wire, error_of
from .test_update import update

Query = Callable[..., list[tuple[object, ...]]]


def pass_time(query: Query, session_id: str, seconds: float) -> None:
    query(
        "UPDATE sessions SET used_at = used_at - %s * interval '1 s',"
        " expiry_check_at = expiry_check_at - %s * interval '1 s' WHERE session_id = %s",
        [seconds, seconds, session_id],
    )


async def test_an_expired_session_is_invisible_at_once(wire: Wire, query: Query) -> None:
    created = await wire.create("one", idle_ttl_s=60)
    assert created.expire_time.ToMilliseconds() - created.create_time.ToMilliseconds() == 60_000
    await wire.store("one", "x")
    pass_time(query, "one", 61)
    assert await wire.list() == []
    for call in (
        wire.get("one"),
        wire.read("one"),
        wire.store("one", "y"),
        wire.resume("one"),
        wire.delete("one"),
    ):
        assert (await error_of(call)).reason == "SESSION_NOT_FOUND"
    assert query("SELECT count(*) FROM sessions") == [(1,)]


async def test_an_expired_id_can_be_used_again_before_the_purger_comes(
    wire: Wire, query: Query
) -> None:
    await wire.create("one", idle_ttl_s=60)
    await wire.store("one", "old")
    pass_time(query, "one", 61)
    assert (await wire.create("one")).last_seq == 0
    assert await wire.read("one") == []


@pytest.mark.parametrize("use", ["append", "read", "read one", "resume", "update"])
async def test_every_use_restarts_the_idle_ttl(wire: Wire, query: Query, use: str) -> None:
    await wire.create("one", idle_ttl_s=60)
    await wire.store("one", "x")
    for _ in range(3):
        pass_time(query, "one", 50)
        match use:
            case "append":
                await wire.store("one", "x")
            case "read":
                await wire.read("one")
            case "read one":
                await wire.message("one", 1)
            case "resume":
                await wire.resume("one")
            case "update":
                await update(wire, Session(session_id="one"), metadata_patch={"a": 1})
    assert (await wire.get("one")).session_id == "one"


async def test_sessions_without_an_idle_ttl_are_kept(
    wire: Wire, query: Query, purger: Purger
) -> None:
    await wire.create("one", never_expires=True)
    query("UPDATE sessions SET used_at = '1999-01-01'")
    assert await purger.round() == (0, 0, 0)
    assert (await wire.get("one")).never_expires


async def test_the_purger_removes_what_expired_and_spares_what_was_used(
    wire: Wire, query: Query, purger: Purger
) -> None:
    for name in ("gone", "used"):
        await wire.create(name, idle_ttl_s=60)
        await wire.store(name, "x", request_id="r")
        pass_time(query, name, 61)
    query("UPDATE sessions SET used_at = now() WHERE session_id = 'used'")
    assert await purger.round() == (1, 1, 0)
    assert query("SELECT session_id FROM sessions") == [("used",)]
    assert query("SELECT count(*) FROM messages") == [(1,)]
    assert query("SELECT count(*) FROM requests") == [(1,)]
    assert query("SELECT count(*) FROM dead_logs") == [(0,)]
    # The next check of the session "used" is at its expiry.
    assert query("SELECT expiry_check_at > now() + interval '50 s' FROM sessions") == [(True,)]


async def test_deleted_messages_are_purged_in_batches(
    wire: Wire, query: Query, server: Running
) -> None:
    store = PurgeStore(server.database)
    await wire.create("one")
    await wire.create("two")
    for name in ("one", "two"):
        await wire.store(name, *["x"] * 250)
    await wire.delete("one")
    await wire.create("one")
    await wire.store("one", "new")
    assert query("SELECT count(*) FROM messages") == [(501,)]
    assert [await store.purge_logs(10, 100) for _ in range(4)] == [
        (0, 100, 100),
        (0, 100, 100),
        (1, 50, 50),
        (0, 0, 0),
    ]
    assert query("SELECT count(*) FROM messages") == [(251,)]
    assert len(await wire.read("one")) == 1
    assert len(await wire.read("two")) == 250


async def test_old_request_ids_are_forgotten(wire: Wire, query: Query, purger: Purger) -> None:
    await wire.create("one", request_id="c")
    await wire.store("one", "x", request_id="r")
    await wire.store("one", "y", request_id="s")
    query("UPDATE requests SET created_at = now() - interval '25 hours' WHERE request_id <> 's'")
    assert await purger.round() == (0, 0, 2)
    assert query("SELECT request_id FROM requests") == [("s",)]


async def test_updates_change_the_expiry(wire: Wire) -> None:
    await wire.create("one")
    session = Session(session_id="one")
    session.idle_ttl.FromSeconds(3600)
    after = await update(wire, session)
    assert after.idle_ttl.seconds == 3600
    assert after.HasField("expire_time")
    assert (await update(wire, Session(session_id="one", never_expires=True))).never_expires


@pytest.mark.parametrize("ttl_s", [0.5, -5, 4_000_000_000])
async def test_times_to_live_have_limits(wire: Wire, ttl_s: float) -> None:
    session = Session(session_id="one")
    session.idle_ttl.seconds = int(ttl_s)
    session.idle_ttl.nanos = int(ttl_s % 1 * 1e9) if ttl_s > 0 else 0
    from sessiond.v1.session_service_pb2 import CreateSessionRequest

    error = await error_of(wire.sessions.CreateSession(CreateSessionRequest(session=session)))
    assert list(error.fields) == ["session.idle_ttl"]


class TestDefault:
    """A server with a default idle_ttl."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"default_idle_ttl_s": 90.0})

    async def test_sessions_without_an_own_idle_ttl_get_the_default(self, wire: Wire) -> None:
        assert (await wire.create("one")).idle_ttl.seconds == 90
        assert (await wire.create("two", never_expires=True)).never_expires
        assert (await wire.create("three", idle_ttl_s=5)).idle_ttl.seconds == 5


async def test_appends_are_heap_only_updates(wire: Wire, database_url: str) -> None:
    """Appends change no indexed column but active_minute, and pages have room for new versions."""
    await wire.create("one", idle_ttl_s=3600, metadata={"a": 1})
    key = session_key(DEFAULT_PROJECT_ID, "one")
    totals = Totals(count=1, content_bytes=1, largest_bytes=1, tokens=1)
    parameters = Append(key, DEFAULT_PROJECT_ID, totals, None, None, "", b"").parameters()
    row: dict[str, object] = {"role": 1, "format": 1, "row_tokens": 1, "body": b"x"}
    with psycopg.connect(database_url) as connection:
        for _ in range(20):
            connection.execute(STATEMENTS[True, False, False, False].encode(), parameters | row)
        [counts] = connection.execute(
            "SELECT pg_stat_get_xact_tuples_updated('sessions'::regclass),"
            " pg_stat_get_xact_tuples_hot_updated('sessions'::regclass)"
        ).fetchall()
    assert counts[0] == 20
    assert counts[1] >= 19
