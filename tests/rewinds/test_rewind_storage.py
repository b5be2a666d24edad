"""Rewinds with copies, readers, flattening, the purger, and servers of the previous version."""

import asyncio

import psycopg
import pytest

from sessiond.v1.session_service_pb2 import GetMessagesRequest, GetMessagesResponse
from sessiond_server.bookmarks.store import BookmarkStore
from sessiond_server.core.errors import Fault
from sessiond_server.core.ids import DEFAULT_PROJECT_ID
from sessiond_server.messages.history import History
from sessiond_server.messages.read_window import Reading
from sessiond_server.messages.store.cuts import CutStore
from sessiond_server.messages.store.history import HistoryStore
from sessiond_server.retention.purger import Purger
from sessiond_server.server import Running

from ..copies.helpers import Query, said
from ..support.locks import LOCKS_LAST
from ..support.waiting import until_waiting
from ..support.wire import Wire, error_of
from .test_rewind import letters


class TestCopies:
    async def test_a_copy_keeps_what_its_source_takes_back(
        self, wire: Wire, purger: Purger
    ) -> None:
        await letters(wire, "s", "abcde")
        await wire.copy("s", "copy")
        await wire.rewind("s", "x", to_seq=1)
        await purger.round()
        assert await wire.texts("copy") == list("abcde")
        assert await wire.texts("s") == ["a", "x"]

    async def test_a_copy_of_a_rewound_session(self, wire: Wire, purger: Purger) -> None:
        await letters(wire, "s", "abcde")
        await wire.rewind("s", "x", "y", to_seq=3)
        await wire.copy("s", "whole")
        await wire.copy("s", "part", up_to_seq=2)
        assert await wire.texts("whole") == list("abcxy")
        assert await wire.texts("part") == ["a", "b"]
        assert (await wire.get("whole")).epoch == 0
        await wire.rewind("whole", "z", to_seq=4)
        await wire.delete("s")
        await purger.round()
        assert await wire.texts("whole") == list("abcxz")
        assert await wire.texts("part") == ["a", "b"]

    @LOCKS_LAST
    async def test_a_rewind_waits_for_a_copy(self, wire: Wire, database_url: str) -> None:
        await letters(wire, "s", "abc")
        with psycopg.connect(database_url) as copying:
            copying.execute("SELECT FROM sessions FOR KEY SHARE")
            rewinding = asyncio.ensure_future(wire.rewind("s", to_seq=1))
            await until_waiting(database_url)
            # A copy does this to restart the source's idle time.
            copying.execute("UPDATE sessions SET used_at = clock_timestamp()")
            copying.commit()
        assert (await rewinding).removed_count == 2


class TestPurge:
    async def test_removed_messages_are_purged(
        self, wire: Wire, purger: Purger, query: Query
    ) -> None:
        await letters(wire, "s", "abcde")
        await wire.rewind("s", to_seq=2)
        await wire.rewind("s", "x", to_seq=1)
        await purger.round()
        assert query("SELECT count(*) FROM messages") == [(2,)]
        assert query("SELECT count(*) FROM dead_logs") == [(0,)]
        assert await wire.texts("s") == ["a", "x"]

    async def test_what_hangs_on_the_session_stays(self, wire: Wire, purger: Purger) -> None:
        """The log whose messages are purged still identifies the session."""
        from .test_rewind import bookmark

        await letters(wire, "s", "abc")
        await bookmark(wire, "s", "b", 1)
        first = await wire.store("s", "d", request_id="r")
        await wire.rewind("s", to_seq=1)
        await purger.round()
        assert await wire.store("s", "d", request_id="r") == first
        assert (await wire.rewind("s", to_bookmark="b")).last_seq == 1

    async def test_messages_wait_for_a_repetition_that_returns_them(
        self, wire: Wire, purger: Purger, query: Query
    ) -> None:
        await letters(wire, "s", "abc")
        fields = {"drop_last": 1, "return_removed": 1, "request_id": "r"}
        done = await wire.rewind("s", **fields)
        await purger.round()
        assert await wire.rewind("s", **fields) == done
        query("UPDATE dead_logs SET queued_at = queued_at - interval '2 minutes'")
        await purger.round()
        error = await error_of(wire.rewind("s", **fields))
        assert error.reason == "HISTORY_REWOUND"
        assert await wire.texts("s") == ["a", "b"]

    async def test_a_deleted_session_leaves_nothing(
        self, wire: Wire, purger: Purger, query: Query
    ) -> None:
        await letters(wire, "s", "abcde")
        await wire.rewind("s", "x", "y", to_seq=3)
        await wire.rewind("s", "z", drop_last=1)
        await wire.delete("s")
        await purger.round()
        for table in ("messages", "segments", "rewinds", "requests", "dead_logs"):
            assert query(f"SELECT count(*) FROM {table}") == [(0,)], table

    async def test_a_recreated_session_begins_in_epoch_0(self, wire: Wire) -> None:
        await letters(wire, "s", "abc")
        await wire.rewind("s", to_seq=1)
        await wire.delete("s")
        await wire.create("s")
        assert (await wire.get("s")).epoch == 0
        assert await wire.texts("s") == []


class TestFlattening:
    async def test_many_rewinds_are_flattened(
        self, wire: Wire, purger: Purger, query: Query
    ) -> None:
        await wire.create("s")
        for i in range(40):
            await wire.store("s", f"{i}", "removed")
            await wire.rewind("s", drop_last=1)
        assert query("SELECT count(*) FROM segments") == [(40,)]
        await purger.round()
        assert query("SELECT count(*) FROM segments") == [(1,)]
        assert await wire.texts("s") == [f"{i}" for i in range(40)]
        # The flattened messages are in the message log, before its new messages.
        await wire.store("s", "new")
        await wire.rewind("s", "newer", to_seq=20)
        await purger.round()
        assert await wire.texts("s") == [*(f"{i}" for i in range(20)), "newer"]
        assert query("SELECT count(*) FROM messages") == [(21,)]


def _history(server: Running) -> History:
    database = server.database
    return History(
        HistoryStore(database), CutStore(database), BookmarkStore(database), 64 * 1024 * 1024
    )


# The messages of `_long`, which fill several pages.
_TEXT = "a" * 4000


async def _long(wire: Wire) -> None:
    await wire.create("s")
    await wire.store("s", *[_TEXT] * 900)


async def _rest(stream: object) -> list[str]:
    batches = [GetMessagesResponse.FromString(batch) async for batch in stream]  # type: ignore[attr-defined]
    return said([message for batch in batches for message in batch.messages])


class TestReaders:
    """Reads during a rewind. The first page has 16 messages; the second page is prefetched."""

    async def test_a_stream_ends_as_it_began_while_the_messages_are_there(
        self, wire: Wire, server: Running
    ) -> None:
        await _long(wire)
        stream = _history(server).stream(DEFAULT_PROJECT_ID, Reading("s"))
        await anext(stream)
        await wire.rewind("s", "x", "y", to_seq=20)
        assert await _rest(stream) == [_TEXT] * 884

    @pytest.mark.parametrize("roles", [(), (3,)])
    async def test_a_stream_whose_messages_were_purged_fails(
        self, wire: Wire, server: Running, purger: Purger, roles: tuple[int, ...]
    ) -> None:
        await _long(wire)
        stream = _history(server).stream(DEFAULT_PROJECT_ID, Reading("s", roles=roles))
        await anext(stream)
        await wire.rewind("s", *["x"] * 900, to_seq=20)
        await purger.round()
        with pytest.raises(Fault) as caught:
            await _rest(stream)
        assert caught.value.reason == "HISTORY_REWOUND"
        assert caught.value.metadata == {"session_id": "s", "epoch": "1", "last_seq": "920"}

    @pytest.mark.parametrize("roles", [(), (3,)])
    async def test_a_stream_up_to_the_cut_goes_on(
        self, wire: Wire, server: Running, purger: Purger, roles: tuple[int, ...]
    ) -> None:
        await _long(wire)
        reading = Reading("s", through_seq=880, roles=roles)
        stream = _history(server).stream(DEFAULT_PROJECT_ID, reading)
        await anext(stream)
        await wire.rewind("s", *["x"] * 15, to_seq=880)
        await purger.round()
        assert await _rest(stream) == [_TEXT] * 864

    async def test_a_resume_token_above_the_cut_is_refused(self, wire: Wire) -> None:
        await letters(wire, "s", "a" * 30)
        [first, *_] = await wire.batches("s")
        [whole, *_] = await wire.batches("s", through_seq=20)
        await wire.rewind("s", *["x"] * 15, to_seq=20)
        error = await error_of(wire.read("s", resume_token=first.resume_token))
        assert error.reason == "HISTORY_REWOUND"
        # A token of a read that ends at the cut is still valid.
        token = whole.resume_token
        assert await wire.texts("s", resume_token=token, through_seq=20) == ["a"] * 4

    async def test_a_resume_token_of_the_current_epoch(self, wire: Wire) -> None:
        await letters(wire, "s", "a" * 30)
        await wire.rewind("s", *["x"] * 15, to_seq=20)
        [first, *_] = await wire.batches("s")
        assert first.epoch == 1
        rest = await wire.texts("s", resume_token=first.resume_token)
        assert rest == ["a"] * 4 + ["x"] * 15
        await wire.rewind("s", drop_last=1)
        error = await error_of(wire.read("s", resume_token=first.resume_token))
        assert error.reason == "HISTORY_REWOUND"

    async def test_cached_pages_are_not_mixed_up(self, wire: Wire) -> None:
        await letters(wire, "s", "abc")
        for i in range(3):
            await wire.rewind("s", f"{i}", "y", to_seq=2)
            for _ in range(2):
                assert await wire.texts("s") == ["a", "b", f"{i}", "y"]

    async def test_a_call_for_one_message(self, wire: Wire, purger: Purger) -> None:
        await letters(wire, "s", "abc")
        await wire.rewind("s", to_seq=2)
        await purger.round()
        assert (await error_of(wire.message("s", 3))).reason == "MESSAGE_NOT_FOUND"
        assert said([await wire.message("s", 2)]) == ["b"]


async def test_a_stream_over_the_wire_says_its_epoch(wire: Wire) -> None:
    await letters(wire, "s", "ab")
    await wire.rewind("s", drop_last=1)
    call = wire.sessions.GetMessages(GetMessagesRequest(session_id="s"))
    assert [batch.epoch async for batch in call] == [1]


async def test_a_server_of_the_previous_version_cannot_append_in_the_wrong_log(
    wire: Wire, database_url: str
) -> None:
    """The previous version sets neither message_log nor written_seq."""
    await letters(wire, "s", "abc")
    append = "UPDATE sessions SET last_seq = last_seq + 1 WHERE session_id = 's'"
    with psycopg.connect(database_url) as connection:
        connection.execute(append)
        connection.rollback()
    await wire.rewind("s", to_seq=1)
    with (
        psycopg.connect(database_url) as connection,
        pytest.raises(psycopg.errors.CheckViolation),
    ):
        connection.execute(append)
    assert await wire.texts("s") == ["a"]
