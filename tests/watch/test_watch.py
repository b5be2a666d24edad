"""Watch: each message once and in order, and requests that are refused."""

import asyncio
import json
import uuid
from typing import Any

import pytest

from sessiond.v1 import session_service_pb2 as ss
from sessiond.v1.conversation_service_pb2 import WatchRequest
from sessiond.v1.session_pb2 import Session
from sessiond_server.core import events
from sessiond_server.core.events import TURN_END
from sessiond_server.core.ids import DEFAULT_PROJECT_ID, session_key
from sessiond_server.core.pg_time import now_us
from sessiond_server.messages.store.history import HistoryStore
from sessiond_server.projects.service import Keys
from sessiond_server.projects.store import KeyStore
from sessiond_server.server import Running
from sessiond_server.settings import Settings

from ..support.watching import Watcher, seqs, watching
from ..support.wire import Wire, error_of, openai


class TestMessages:
    async def test_an_event_carries_the_stored_message(self, wire: Wire) -> None:
        await wire.create("one")
        for role in ("user", "assistant", "system", "developer", "tool"):
            await wire.store("one", openai(role, role))
        watcher = await watching(wire, "one", after_seq=0)
        events = await watcher.through(5)
        assert [event.message for event in events] == await wire.read("one")
        assert [event.type for event in events] == [
            "user.message",
            "assistant.message",
            "system.message",
            "developer.message",
            "tool.message",
        ]
        assert {event.session_id for event in events} == {"one"}
        assert [event.time for event in events] == [event.message.create_time for event in events]
        assert not any(event.HasField("data") for event in events)

    async def test_without_after_seq_only_new_messages_are_delivered(
        self, no_poll: None, wire: Wire
    ) -> None:
        await wire.create("one")
        await wire.store("one", "a", "b")
        watcher = await watching(wire, "one")
        await wire.store("one", "c")
        assert (await watcher.event()).seq == 3

    async def test_replay_and_live_messages_join_without_gap_or_repeat(
        self, no_poll: None, wire: Wire
    ) -> None:
        await wire.create("one")
        for _ in range(5):
            await wire.store("one", *["x" * 500] * 200)
        watchers: dict[int, Watcher] = {}

        async def write() -> None:
            for _ in range(40):
                await wire.store("one", "y", "z")

        async def watch_after(seq: int) -> None:
            watchers[seq] = await watching(wire, "one", after_seq=seq)

        await asyncio.gather(
            *(write() for _ in range(8)), *(watch_after(seq) for seq in (0, 1, 255, 256, 999, 1000))
        )
        for after, watcher in watchers.items():
            assert seqs(await watcher.through(1640)) == list(range(after + 1, 1641))

    async def test_a_copy_is_watched_through_its_segments(self, wire: Wire) -> None:
        await wire.create("one")
        await wire.store("one", "a", "b", "c")
        await wire.copy("one", "two")
        await wire.store("two", "d")
        watcher = await watching(wire, "two", after_seq=1)
        await wire.store("two", "e")
        assert [
            json.loads(event.message.json)["content"] for event in await watcher.through(5)
        ] == ["b", "c", "d", "e"]

    async def test_an_import_is_delivered_whole(self, no_poll: None, wire: Wire) -> None:
        await wire.create("one")
        watcher = await watching(wire, "one")
        await wire.import_("one", [[openai("x" * 1000)] * 500] * 10)
        assert seqs(await watcher.through(5000)) == list(range(1, 5001))

    async def test_many_watchers_share_the_reads(
        self, no_poll: None, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await wire.create("one")
        watchers = [await watching(wire, "one") for _ in range(200)]
        reads = 0
        page = HistoryStore.page

        async def counted(self: HistoryStore, query: Any) -> Any:
            nonlocal reads
            reads += 1
            return await page(self, query)

        monkeypatch.setattr(HistoryStore, "page", counted)
        for _ in range(50):
            await wire.store("one", "x")
        for watcher in watchers:
            assert seqs(await watcher.through(50)) == list(range(1, 51))
        assert reads <= 100  # for each append, a read that finds it and one that finds nothing

    async def test_events_of_a_commit_are_delivered_among_its_messages(
        self, no_poll: None, wire: Wire, server: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        session = await wire.create("one")
        watcher = await watching(wire, "one")
        page, was_read = HistoryStore.page, asyncio.Event()

        async def noted(self: HistoryStore, query: Any) -> Any:
            rows = await page(self, query)
            if rows:
                was_read.set()
            return rows

        monkeypatch.setattr(HistoryStore, "page", noted)
        log = uuid.UUID(hex=session.etag.partition("-")[0])
        with server.watching.hold_delivery(session_key(DEFAULT_PROJECT_ID, "one")):
            await wire.store("one", "answer", "next prompt")
            await was_read.wait()
            server.watching.publish(
                events.Event(TURN_END, DEFAULT_PROJECT_ID, "one", log, now_us(), after_seq=1)
            )
        found = [(await watcher.event()).type for _ in range(3)]
        assert found == ["user.message", TURN_END, "user.message"]


class TestRequests:
    @pytest.mark.parametrize("after_seq", [-1, 3, 2**62])
    async def test_an_after_seq_outside_the_session_is_refused(
        self, wire: Wire, after_seq: int
    ) -> None:
        await wire.create("one")
        await wire.store("one", "a", "b")
        error = await error_of(
            wire.conversations.Watch(WatchRequest(session_id="one", after_seq=after_seq))
        )
        assert (error.reason, list(error.fields)) == ("INVALID_FIELD", ["after_seq"])

    async def test_an_after_seq_without_a_session_is_refused(self, wire: Wire) -> None:
        error = await error_of(wire.conversations.Watch(WatchRequest(after_seq=0)))
        assert (error.reason, list(error.fields)) == ("INVALID_FIELD", ["after_seq"])

    @pytest.mark.parametrize("seconds", [0, -1, 301])
    async def test_a_heartbeat_out_of_range_is_refused(self, wire: Wire, seconds: int) -> None:
        await wire.create("one")
        request = WatchRequest(session_id="one")
        request.heartbeat_interval.seconds = seconds
        error = await error_of(wire.conversations.Watch(request))
        assert (error.reason, list(error.fields)) == ("INVALID_FIELD", ["heartbeat_interval"])

    @pytest.mark.parametrize("session_id", ["one", ""])
    async def test_silence_is_filled_with_heartbeats(self, wire: Wire, session_id: str) -> None:
        await wire.create("one")
        watcher = await watching(wire, session_id, heartbeat_interval={"seconds": 1})
        assert not (await watcher.response()).events
        assert not (await watcher.response()).events
        await wire.store("one", "x")
        await wire.destroy("one")
        while (event := await watcher.event()).type != "session.destroyed":
            assert (session_id, event.seq) == ("one", 1)


class TestProjects:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"require_keys": True})

    async def test_another_projects_events_are_not_seen(
        self, no_poll: None, wire: Wire, server: Running
    ) -> None:
        keys = Keys(KeyStore(server.database))
        made = {name: await keys.create_key(name, create_project=True) for name in ("blue", "red")}
        calls = {
            name: {"metadata": (("authorization", f"Bearer {key.secret}"),)}
            for name, key in made.items()
        }
        watch = wire.conversations.Watch
        red, blue = watch(WatchRequest(), **calls["red"]), watch(WatchRequest(), **calls["blue"])
        await red.read()
        await blue.read()
        await wire.sessions.CreateSession(
            ss.CreateSessionRequest(session=Session(session_id="one")), **calls["blue"]
        )
        error = await error_of(watch(WatchRequest(session_id="one"), **calls["red"]))
        assert error.reason == "SESSION_NOT_FOUND"
        await wire.sessions.CreateSession(
            ss.CreateSessionRequest(session=Session(session_id="two")), **calls["red"]
        )
        # Red first receives its own event, although blue's event happened earlier.
        assert [event.session_id for event in (await red.read()).events] == ["two"]
        assert [event.session_id for event in (await blue.read()).events] == ["one"]
