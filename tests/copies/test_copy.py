"""Copies: what they hold, what they cost, and that both sides are independent."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import grpc
import psycopg
import pytest

from sessiond.v1 import session_service_pb2 as ss
from sessiond.v1.message_pb2 import Message
from sessiond.v1.session_pb2 import SESSION_STATE_ACTIVE
from sessiond.v1.session_service_pb2 import GetMessagesResponse
from sessiond_server.bookmarks.store import BookmarkStore
from sessiond_server.core.ids import DEFAULT_PROJECT_ID
from sessiond_server.messages.history import History, Reading
from sessiond_server.messages.store.history import HistoryStore
from sessiond_server.retention.purger import Purger
from sessiond_server.retention.store import PurgeStore
from sessiond_server.server import Running
from sessiond_server.settings import Settings

from ..support.waiting import until_waiting
from ..support.wire import Wire, error_of, openai

Query = Callable[..., list[tuple[Any, ...]]]


def said(messages: list[Message]) -> list[str]:
    return [json.loads(message.json)["content"] for message in messages]


async def test_a_copy_is_the_same_up_to_its_settings(wire: Wire) -> None:
    await wire.create(
        "one",
        model="gpt-5",
        user="ada",
        title="A",
        config={"t": 1},
        metadata={"team": "x"},
        idle_ttl_s=3600,
    )
    await wire.store("one", openai("first"), openai("answer", "assistant"))
    await wire.store(
        "one", Message(format=1, json='{"role": "user",  "content": "again"}', parent_seq=1)
    )
    source = await wire.get("one")
    answer = await wire.copy("one", "two")
    assert (answer.old_session_id, answer.new_session_id) == ("one", "two")
    made = await wire.get("two")
    assert made == answer.session
    same = (
        "model",
        "user",
        "title",
        "summary",
        "config",
        "metadata",
        "last_seq",
        "message_count",
        "content_bytes",
        "token_count",
        "idle_ttl",
    )
    for field in (*same, "estimated_token_count"):
        assert getattr(made, field) == getattr(source, field), field
    assert (made.origin.session_id, made.origin.seq) == ("one", 3)
    assert not source.HasField("origin")
    assert made.create_time.ToDatetime() > source.create_time.ToDatetime()
    assert made.etag != source.etag
    # Seqs, parents, times, exact JSON: all of it.
    assert await wire.read("two") == await wire.read("one")
    assert await wire.message("two", 3) == await wire.message("one", 3)


async def test_both_sides_go_on_for_themselves(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", "a", "b")
    await wire.copy("one", "two")
    await wire.store("one", "only in one")
    stored = await wire.store("two", "only in two", "and more")
    assert (stored.first_seq, stored.last_seq) == (3, 4)
    assert said(await wire.read("one")) == ["a", "b", "only in one"]
    assert said(await wire.read("two")) == ["a", "b", "only in two", "and more"]
    await wire.destroy("one")
    assert (await wire.get("two")).state == SESSION_STATE_ACTIVE


async def test_a_new_id_is_made_where_none_is_given(wire: Wire) -> None:
    await wire.create("one")
    made = await wire.copy("one")
    assert len(made.new_session_id) == 36
    assert (await wire.get(made.new_session_id)).last_seq == 0
    assert await wire.read(made.new_session_id) == []


async def test_overrides(wire: Wire) -> None:
    await wire.create(
        "one",
        model="a",
        user="ada",
        title="A",
        config={"t": 1},
        metadata={"team": "x"},
        idle_ttl_s=60,
    )
    request = ss.CopySessionRequest(
        session_id="one", new_session_id="two", model="b", user="", title="T", never_expires=True
    )
    request.metadata.update({"new": True})
    request.config.SetInParent()
    await wire.sessions.CopySession(request)
    made = await wire.get("two")
    assert (made.model, made.user, made.title, made.never_expires) == ("b", "", "T", True)
    assert dict(made.metadata) == {"new": True}
    assert not made.config
    short = ss.CopySessionRequest(session_id="two", new_session_id="three")
    short.idle_ttl.FromSeconds(5)
    await wire.sessions.CopySession(short)
    assert (await wire.get("three")).idle_ttl.ToSeconds() == 5


async def test_a_destroyed_session_can_be_copied(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", "a")
    await wire.destroy("one")
    await wire.copy("one", "two")
    await wire.store("two", "b")
    assert said(await wire.read("two")) == ["a", "b"]


@pytest.mark.parametrize("through", [0, 1, 2, 3, 5, 6])
async def test_a_cut_in_the_middle_counts_right(wire: Wire, through: int) -> None:
    """In the middle of a batch, at its end, in what a copy shares with another one, and behind that."""
    await wire.create("zero")
    await wire.store(
        "zero", openai("you are", "system"), openai("hello"), openai("hi", "assistant")
    )
    await wire.copy("zero", "one")
    await wire.store("one", *(openai(f"message {'x' * i * 7}") for i in range(3)))
    made = (await wire.copy("one", "two", up_to_seq=through)).session
    read = await wire.read("two")
    assert read == (await wire.read("one"))[:through]
    assert made.last_seq == made.message_count == made.origin.seq == through
    assert made.content_bytes == sum(m.content_bytes for m in read)
    assert made.token_count == made.estimated_token_count == sum(m.token_count for m in read)
    assert made.summary == ("hello" if through >= 2 else "")
    stored = await wire.store("two", "next")
    assert stored.first_seq == through + 1


async def test_a_cut_beyond_the_end_is_refused(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", "a")
    error = await error_of(wire.copy("one", "two", up_to_seq=2))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND")
    assert (error.metadata["seq"], error.metadata["last_seq"], list(error.fields)) == (
        "2",
        "1",
        ["up_to_seq"],
    )
    assert list((await error_of(wire.copy("one", up_to_seq=-1))).fields) == ["up_to_seq"]
    assert [s.session_id for s in await wire.list()] == ["one"]


async def test_errors_name_the_field(wire: Wire) -> None:
    await wire.create("one")
    for field, value in (
        ("new_session_id", " x"),
        ("model", "x" * 257),
        ("user", "a\0"),
        ("title", "x" * 513),
        ("up_to_bookmark", ""),
        ("up_to_bookmark", "x" * 129),
        ("never_expires", False),
        ("request_id", "x" * 129),
    ):
        error = await error_of(
            wire.sessions.CopySession(ss.CopySessionRequest(session_id="one", **{field: value}))
        )
        assert (error.reason, list(error.fields)) == ("INVALID_FIELD", [field])
    request = ss.CopySessionRequest(session_id="one")
    request.idle_ttl.FromMilliseconds(1)
    assert list((await error_of(wire.sessions.CopySession(request))).fields) == ["idle_ttl"]
    request = ss.CopySessionRequest(session_id="one")
    request.metadata.update({"x": float("nan")})
    assert list((await error_of(wire.sessions.CopySession(request))).fields) == ["metadata.x"]
    error = await error_of(wire.copy("one", up_to_bookmark="none"))
    assert (error.reason, error.metadata["name"], list(error.fields)) == (
        "BOOKMARK_NOT_FOUND",
        "none",
        ["up_to_bookmark"],
    )
    assert [s.session_id for s in await wire.list()] == ["one"]


async def test_an_id_that_is_taken_is_refused(wire: Wire) -> None:
    await wire.create("one")
    await wire.create("two", title="kept")
    for taken in ("one", "two"):
        error = await error_of(wire.copy("one", taken))
        assert (error.code, error.reason) == (
            grpc.StatusCode.ALREADY_EXISTS,
            "SESSION_ALREADY_EXISTS",
        )
        assert (error.metadata["session_id"], list(error.fields)) == (taken, ["new_session_id"])
    assert (await wire.get("two")).title == "kept"


async def test_an_expired_sessions_id_is_free(wire: Wire, query: Query) -> None:
    await wire.create("one")
    await wire.create("two", idle_ttl_s=60)
    query("UPDATE sessions SET used_at = now() - interval '1 hour' WHERE session_id = 'two'")
    await wire.copy("one", "two")
    assert (await wire.get("two")).origin.session_id == "one"


async def test_the_same_request_is_one_copy(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", "a")
    answers = await asyncio.gather(*(wire.copy("one", request_id="r") for _ in range(8)))
    assert len({answer.new_session_id for answer in answers}) == 1
    assert len(await wire.list()) == 2
    error = await error_of(wire.copy("one", request_id="r", title="other"))
    assert (error.reason, list(error.fields)) == ("REQUEST_ID_REUSED", ["request_id"])


async def test_lineage_is_told_both_ways(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", "a", "b")
    for i in range(5):
        await wire.copy("one", f"copy-{i}", up_to_seq=i % 3)
    await wire.copy("copy-0", "grandchild")
    await wire.delete("copy-3")

    async def copies(session_id: str) -> list[tuple[str, int]]:
        found, token = [], ""
        while True:
            page = await wire.sessions.ListCopies(
                ss.ListCopiesRequest(session_id=session_id, page_size=2, page_token=token)
            )
            found += [(c.session_id, c.seq) for c in page.copies]
            if not (token := page.next_page_token):
                return found

    assert await copies("one") == [("copy-4", 1), ("copy-2", 2), ("copy-1", 1), ("copy-0", 0)]
    assert await copies("copy-0") == [("grandchild", 0)]
    assert await copies("grandchild") == []
    # The copies outlive their source, and know its name.
    await wire.delete("one")
    assert (await wire.get("copy-1")).origin.session_id == "one"
    await wire.create("one")
    assert await copies("one") == []


class TestLimit:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"copy_max_messages": 3})

    async def test_what_is_larger_is_refused_and_nothing_is_written(
        self, wire: Wire, query: Query
    ) -> None:
        await wire.create("one")
        await wire.store("one", "a", "b", "c", "d")
        error = await error_of(wire.copy("one", "two"))
        assert (error.code, error.reason) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "SESSION_TOO_LARGE",
        )
        del error.metadata["call_id"]
        assert error.metadata == {"session_id": "one", "message_count": "4", "max_messages": "3"}
        assert query("SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM segments)") == [
            (1, 0)
        ]
        await wire.copy("one", "two", up_to_seq=3)
        assert len(await wire.read("two")) == 3


class TestReading:
    """Reads that go through several logs."""

    @pytest.fixture
    async def chain(self, wire: Wire) -> list[str]:
        """A session that shares with 12 others: its texts."""
        await wire.create("c0")
        texts: list[str] = []
        for i in range(13):
            new = [f"{i}.{j}" + "x" * (i * 37 % 50) for j in range(i % 4 + 1)]
            await wire.store(
                f"c{i}", *(openai(text, ("user", "assistant")[j % 2]) for j, text in enumerate(new))
            )
            texts += new
            if i < 12:
                await wire.copy(f"c{i}", f"c{i + 1}")
        return texts

    async def test_in_every_way(self, wire: Wire, chain: list[str], query: Query) -> None:
        count = len(chain)
        assert query("SELECT max(n) FROM (SELECT count(*) AS n FROM segments GROUP BY key) s") == [
            (12,)
        ]
        assert said(await wire.read("c12")) == chain
        assert said(await wire.read("c12", order=ss.MESSAGE_ORDER_DESC)) == chain[::-1]
        for after in range(0, count, 5):
            assert (
                said(await wire.read("c12", after_seq=after, through_seq=count - 3))
                == chain[after : count - 3]
            )
            assert (
                said(await wire.read("c12", after_seq=after, limit=4)) == chain[after : after + 4]
            )
        every = await wire.read("c12")
        users = [m for m in every if m.role == 3]
        assert await wire.read("c12", roles=[3]) == users
        assert await wire.read("c12", roles=[3], order=ss.MESSAGE_ORDER_DESC) == users[::-1]
        basic = await wire.read("c12", view=ss.MESSAGE_VIEW_BASIC)
        assert [(m.seq, m.content_bytes, m.token_count) for m in basic] == [
            (m.seq, m.content_bytes, m.token_count) for m in every
        ]
        for message in every:
            assert await wire.message("c12", message.seq) == message

    async def test_every_batch_can_be_resumed_from(self, wire: Wire, chain: list[str]) -> None:
        batches = await wire.batches("c12")
        assert len(batches) > 1
        for i, batch in enumerate(batches):
            rest = await wire.read("c12", resume_token=batch.resume_token)
            assert rest == [m for later in batches[i + 1 :] for m in later.messages]

    async def test_large_messages_through_several_logs(self, wire: Wire) -> None:
        await wire.create("c0")
        for i in range(4):
            await wire.store(f"c{i}", "y" * 900_000, "small", "z" * 300_000)
            await wire.copy(f"c{i}", f"c{i + 1}")
        read = await wire.read("c4")
        assert [len(text) for text in said(read)] == [900_000, 5, 300_000] * 4
        assert await wire.read("c4", order=ss.MESSAGE_ORDER_DESC) == read[::-1]

    async def test_flattened_is_the_same(self, wire: Wire, purger: Purger, query: Query) -> None:
        await wire.create("c0")
        texts = []
        for i in range(30):
            texts.append(f"text {i}")
            await wire.store(f"c{i}", texts[-1])
            await wire.copy(f"c{i}", f"c{i + 1}")
        before = await wire.read("c30")
        assert said(before) == texts
        await purger.round()
        assert query(
            "SELECT max(short_segments), (SELECT max(n) FROM (SELECT count(*) AS n FROM segments GROUP BY key) s) FROM sessions"
        ) == [(16, 16)]
        assert await wire.read("c30") == before
        assert query(
            "SELECT count(*) FROM segments g JOIN sessions s USING (key) WHERE session_id = 'c30'"
        ) == [(1,)]
        # All but the last one go, and the last one has it all.
        for i in range(30):
            await wire.delete(f"c{i}")
        await purger.round()
        assert await wire.read("c30") == before
        assert query("SELECT count(*) FROM messages") == [(30,)]
        await wire.delete("c30")
        await purger.round()
        for table in ("messages", "segments", "dead_logs", "sessions"):
            assert query(f"SELECT count(*) FROM {table}") == [(0,)], table

    async def test_a_reader_in_mid_stream_follows_a_flattening(
        self, wire: Wire, purger: Purger
    ) -> None:
        """The logs that it was about to read are emptied under it."""
        await wire.create("c0")
        for i in range(20):
            await wire.store(f"c{i}", *(f"{i}.{j}." + "x" * 20_000 for j in range(20)))
            await wire.copy(f"c{i}", f"c{i + 1}")
        expected = await wire.read("c20")
        readers = [
            aiter(wire.sessions.GetMessages(ss.GetMessagesRequest(session_id="c20"))),
            aiter(wire.sessions.GetMessages(ss.GetMessagesRequest(session_id="c20", roles=[3]))),
        ]
        begun = [await anext(reader) for reader in readers]
        for i in range(20):
            await wire.delete(f"c{i}")
        await purger.round()
        for first, reader in zip(begun, readers, strict=True):
            assert [*first.messages] + [
                m async for batch in reader for m in batch.messages
            ] == expected

    async def test_a_reader_in_mid_stream_of_what_is_deleted_is_told(
        self, wire: Wire, purger: Purger
    ) -> None:
        await wire.create("c0")
        for i in range(6):
            await wire.store(f"c{i // 3}", *("x" * 100_000 for _ in range(40)))
            if i == 2:
                await wire.copy("c0", "c1")
        reader = aiter(wire.sessions.GetMessages(ss.GetMessagesRequest(session_id="c1")))
        await anext(reader)
        await wire.delete("c0")
        await wire.delete("c1")
        await purger.round()
        assert (await error_of(reader)).reason == "SESSION_NOT_FOUND"

    async def test_a_page_that_a_purge_made_short_is_not_kept(
        self, wire: Wire, server: Running, purger: Purger
    ) -> None:
        """A query of the old segments finds the end of what it asks for, whose beginning is purged."""
        await wire.create("c0")
        for i in range(18):
            texts = (
                [f"{i}"] * 2 if i < 16 else ["x" * 900_000] * 4 if i == 16 else ["y" * 100_000] * 30
            )
            await wire.store(f"c{i}", *texts)
            if i < 17:
                await wire.copy(f"c{i}", f"c{i + 1}")
        expected = await wire.read("c17")
        history = History(
            HistoryStore(server.database), BookmarkStore(server.database), 256 * 1024 * 1024
        )
        reading = Reading("c17", after_seq=26)
        stream = history.stream(DEFAULT_PROJECT_ID, reading)
        begun = GetMessagesResponse.FromString(await anext(stream))
        for i in range(17):
            await wire.delete(f"c{i}")
        await purger.round()
        rest = [GetMessagesResponse.FromString(batch) async for batch in stream]
        assert [m for batch in (begun, *rest) for m in batch.messages] == expected[26:]
        again = [
            m
            async for batch in history.stream(DEFAULT_PROJECT_ID, reading)
            for m in GetMessagesResponse.FromString(batch).messages
        ]
        assert again == expected[26:]

    async def test_chains_of_one_id_are_flattened_too(
        self, wire: Wire, purger: Purger, query: Query
    ) -> None:
        """Undo by copy: back and forth between two ids, each copy of a session whose id had others before."""
        await wire.create("main")
        for i in range(20):
            await wire.store("main", f"{i}")
            await wire.copy("main", "spare")
            await wire.delete("main")
            await wire.copy("spare", "main")
            await wire.delete("spare")
        assert query("SELECT count(*) FROM segments") == [(20,)]
        await purger.round()
        assert query("SELECT count(*) FROM segments") == [(1,)]
        assert said(await wire.read("main")) == [f"{i}" for i in range(20)]


async def test_being_copied_is_a_use(wire: Wire, query: Query) -> None:
    await wire.create("one", idle_ttl_s=100)
    query("UPDATE sessions SET used_at = now() - interval '50 s'")
    await wire.copy("one", "two")
    assert query(
        "SELECT used_at > now() - interval '10 s' FROM sessions WHERE session_id = 'one'"
    ) == [(True,)]
    # But not each of many writes to the source's row.
    before = query("SELECT used_at FROM sessions WHERE session_id = 'one'")
    await wire.copy("one", "three")
    assert query("SELECT used_at FROM sessions WHERE session_id = 'one'") == before


class TestLocks:
    """What must wait for what. Each is held still by a lock of the test's."""

    async def test_a_copy_waits_for_a_deletion(self, wire: Wire, database_url: str) -> None:
        await wire.create("one")
        with psycopg.connect(database_url) as blocker:
            blocker.execute("SELECT FROM sessions FOR UPDATE")
            copying = asyncio.ensure_future(wire.copy("one", "two"))
            await until_waiting(database_url)
            blocker.execute("DELETE FROM sessions")
            blocker.commit()
        assert (await error_of(copying)).reason == "SESSION_NOT_FOUND"

    async def test_a_copy_lets_appends_go_on(self, wire: Wire, database_url: str) -> None:
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
                "DELETE FROM segments USING sessions s WHERE s.key = segments.key AND session_id = 'c20'"
            )
            blocker.execute("DELETE FROM sessions WHERE session_id = 'c20'")
            blocker.commit()
        await round_
        with psycopg.connect(database_url) as connection:
            assert connection.execute(
                "SELECT count(*) FROM messages m LEFT JOIN sessions s USING (key) WHERE s.key IS NULL"
            ).fetchone() == (0,)

    async def test_a_deletion_waits_for_the_purger_of_its_log(
        self, wire: Wire, database_url: str, query: Query
    ) -> None:
        """Which may be about to drop the log's entry, because the session still lives."""
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

    async def test_logs_that_a_flattening_leaves_are_looked_at_again(
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


class TestPurging:
    async def test_what_a_copy_reads_stays_and_the_rest_goes(
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

    async def test_a_live_sources_log_is_left_alone(
        self, wire: Wire, purger: Purger, query: Query
    ) -> None:
        await wire.create("one")
        await wire.store("one", "a", "b")
        await wire.copy("one", "two", up_to_seq=1)
        await wire.delete("two")
        await purger.round()
        assert said(await wire.read("one")) == ["a", "b"]
        assert query("SELECT count(*) FROM dead_logs") == [(0,)]

    async def test_expired_copies_give_back_too(
        self, wire: Wire, purger: Purger, query: Query
    ) -> None:
        await wire.create("one", idle_ttl_s=60)
        await wire.store("one", "a", "b")
        await wire.copy("one", "two")
        query(
            "UPDATE sessions SET used_at = now() - interval '1 hour', expiry_check_at = now() - interval '1 minute'"
        )
        await purger.round()
        for table in ("messages", "segments", "dead_logs", "sessions"):
            assert query(f"SELECT count(*) FROM {table}") == [(0,)], table


async def test_copies_under_fire_are_prefixes(wire: Wire) -> None:
    """16 append to one session while 16 copy it."""
    await wire.create("one")
    await wire.store("one", "start")
    done = asyncio.Event()

    async def write(writer: int) -> None:
        for i in range(15):
            await wire.store("one", *(f"{writer}.{i}.{j}" for j in range(3)))

    async def copy_on(copier: int) -> list[str]:
        made = []
        while not done.is_set():
            made.append((await wire.copy("one")).new_session_id)
        return made

    copiers = [asyncio.create_task(copy_on(i)) for i in range(16)]
    await asyncio.gather(*(write(i) for i in range(16)))
    done.set()
    copies = [session_id for made in await asyncio.gather(*copiers) for session_id in made]
    source = await wire.read("one")
    assert len(source) == 16 * 45 + 1
    for session_id in copies:
        session = await wire.get(session_id)
        read = await wire.read(session_id)
        assert read == source[: session.last_seq]
        assert session.content_bytes == sum(m.content_bytes for m in read)
        assert session.token_count == sum(m.token_count for m in read)
    assert len({(await wire.get(s)).last_seq for s in copies}) > 3
