"""Reads of copies, whose messages are in several logs."""

import pytest

from sessiond.v1 import session_service_pb2 as ss
from sessiond.v1.session_service_pb2 import GetMessagesResponse
from sessiond_server.bookmarks.store import BookmarkStore
from sessiond_server.core.ids import DEFAULT_PROJECT_ID
from sessiond_server.messages.history import History
from sessiond_server.messages.read_window import Reading
from sessiond_server.messages.store.cuts import CutStore
from sessiond_server.messages.store.history import HistoryStore
from sessiond_server.retention.purger import Purger
from sessiond_server.server import Running

from ..support.wire import Wire, error_of, openai
from .helpers import Query, said


class TestReading:
    """Reads across several logs."""

    @pytest.fixture
    async def chain(self, wire: Wire) -> list[str]:
        """Create a session that shares segments with 12 others. Returns its texts."""
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

    async def test_windows_orders_and_filters_cross_segments(
        self, wire: Wire, chain: list[str], query: Query
    ) -> None:
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

    async def test_large_messages_are_read_across_segments(self, wire: Wire) -> None:
        await wire.create("c0")
        for i in range(4):
            await wire.store(f"c{i}", "y" * 900_000, "small", "z" * 300_000)
            await wire.copy(f"c{i}", f"c{i + 1}")
        read = await wire.read("c4")
        assert [len(text) for text in said(read)] == [900_000, 5, 300_000] * 4
        assert await wire.read("c4", order=ss.MESSAGE_ORDER_DESC) == read[::-1]

    async def test_a_flattened_copy_reads_the_same(
        self, wire: Wire, purger: Purger, query: Query
    ) -> None:
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
            "SELECT max(short_segments), (SELECT max(n) FROM (SELECT count(*) AS n FROM segments "
            "GROUP BY key) s) FROM sessions"
        ) == [(16, 16)]
        assert await wire.read("c30") == before
        assert query(
            "SELECT count(*) FROM segments g JOIN sessions s USING (key) WHERE session_id = 'c30'"
        ) == [(1,)]
        # The last copy keeps every message when all the others are deleted.
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
        """Flattening empties the logs that the reader reads next."""
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

    async def test_a_reader_in_mid_stream_of_a_deleted_session_gets_an_error(
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

    async def test_a_page_that_a_purge_made_short_is_not_cached(
        self, wire: Wire, server: Running, purger: Purger
    ) -> None:
        """The purge deletes most of the range that the reader queries, up to near its end."""
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
            HistoryStore(server.database),
            CutStore(server.database),
            BookmarkStore(server.database),
            256 * 1024 * 1024,
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
        """A program that undoes by copying between two ids recreates each session many times."""
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
