"""Watch: each message once and in order, wherever it is appended; what becomes of sessions; watchers that are slow."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from sessiond.v1 import session_service_pb2 as ss
from sessiond.v1.conversation_service_pb2 import WatchRequest, WatchResponse
from sessiond.v1.event_pb2 import Event
from sessiond.v1.session_pb2 import Session
from sessiond_server.core import events
from sessiond_server.core.events import TURN_END
from sessiond_server.core.ids import DEFAULT_PROJECT_ID, session_key
from sessiond_server.core.pg_time import now_us
from sessiond_server.messages.store.history import HistoryStore
from sessiond_server.projects.service import Keys
from sessiond_server.projects.store import KeyStore
from sessiond_server.retention.purger import Purger
from sessiond_server.server import Running, drain, serving
from sessiond_server.settings import Settings
from sessiond_server.watch.notifier import MAX_PAYLOAD_BYTES, Notifier, payloads
from sessiond_server.watch.store import APPLICATION_NAME, WatchStore

from ..support.waiting import until_async
from ..support.wire import Wire, WireError, error_of, openai, taken_apart

PATIENCE_S = 60
LISTENS = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s"


class Watcher:
    """A Watch call. Made by `watching`, which has waited for the first response."""

    def __init__(self, wire: Wire, session_id: str, fields: dict[str, Any]) -> None:
        self.call = wire.conversations.Watch(WatchRequest(session_id=session_id, **fields))
        self._events: list[Event] = []

    async def response(self) -> WatchResponse:
        """The next one, as it comes."""
        async with asyncio.timeout(PATIENCE_S):
            response = await self.call.read()
        if response is grpc.aio.EOF:
            await self.call  # raises what it ended with
            raise AssertionError("a watcher ends with an error")
        return response  # type: ignore[no-any-return]

    async def event(self) -> Event:
        """The next one."""
        while not self._events:
            self._events += (await self.response()).events
        return self._events.pop(0)

    async def through(self, seq: int) -> list[Event]:
        """The events up to a message."""
        events = [await self.event()]
        while events[-1].seq != seq:
            events.append(await self.event())
        return events

    async def error(self) -> WireError:
        """What it ends with."""
        try:
            while True:
                self._events += (await self.response()).events
        except grpc.aio.AioRpcError as e:
            return taken_apart(e)


async def watching(wire: Wire, session_id: str = "", **fields: Any) -> Watcher:
    watcher = Watcher(wire, session_id, fields)
    watcher._events += (await watcher.response()).events
    return watcher


def seqs(events: list[Event]) -> list[int]:
    return [event.seq for event in events]


@pytest.fixture
async def elsewhere(settings: Settings, database_url: str) -> AsyncIterator[Running]:
    """Another server of the same database."""
    async with serving(settings, database_url) as running:
        yield running


@pytest.fixture
async def other_wire(elsewhere: Running) -> AsyncIterator[Wire]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{elsewhere.port}") as channel:
        yield Wire(channel)


@pytest.fixture
async def both_listen(elsewhere: Running, server: Running, query: Callable[..., Any]) -> None:
    """Both servers hear notices."""
    statement = f"SELECT count(*) {LISTENS} AND state = 'idle' AND query LIKE 'LISTEN%%'"
    await until_async(lambda: query(statement, [APPLICATION_NAME]) == [(2,)], "both servers listen")


@pytest.fixture
def no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes, comes by hints alone. To be asked for before the server is."""
    monkeypatch.setattr("sessiond_server.watch.hub.POLL_S", 3600.0)


class TestMessages:
    async def test_an_event_is_its_message(self, wire: Wire) -> None:
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

    async def test_without_after_seq_only_what_comes(self, no_poll: None, wire: Wire) -> None:
        await wire.create("one")
        await wire.store("one", "a", "b")
        watcher = await watching(wire, "one")
        await wire.store("one", "c")
        assert (await watcher.event()).seq == 3

    async def test_replay_and_what_comes_join_without_gap_or_repeat(
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

    async def test_an_import_is_handed_on_whole(self, no_poll: None, wire: Wire) -> None:
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
        assert reads <= 100  # at most one for each append, and one that finds nothing

    async def test_what_is_told_of_a_commit_takes_its_place_in_it(
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
    async def test_an_after_seq_that_is_no_place_is_refused(
        self, wire: Wire, after_seq: int
    ) -> None:
        await wire.create("one")
        await wire.store("one", "a", "b")
        error = await error_of(
            wire.conversations.Watch(WatchRequest(session_id="one", after_seq=after_seq))
        )
        assert (error.reason, list(error.fields)) == ("INVALID_FIELD", ["after_seq"])

    async def test_a_project_has_no_after_seq(self, wire: Wire) -> None:
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


class TestLifecycle:
    @pytest.mark.parametrize("session_id", ["one", ""])
    async def test_what_happens_is_told(self, no_poll: None, wire: Wire, session_id: str) -> None:
        await wire.create("one")
        watcher = await watching(wire, session_id)
        await wire.destroy("one")
        await wire.resume("one")
        await wire.sessions.UpdateSession(
            ss.UpdateSessionRequest(session=Session(session_id="one", title="t"))
        )
        await wire.delete("one")
        events = [await watcher.event() for _ in range(4)]
        assert [event.type for event in events] == [
            "session.destroyed",
            "session.resumed",
            "session.updated",
            "session.deleted",
        ]
        for event in events:
            assert (event.session_id, event.seq, event.HasField("message")) == ("one", 0, False)
            assert abs(event.time.ToSeconds() - events[0].time.ToSeconds()) < PATIENCE_S

    async def test_a_project_hears_of_what_is_new(
        self, no_poll: None, wire: Wire, other_wire: Wire, both_listen: None
    ) -> None:
        here, there = await watching(wire), await watching(other_wire)
        await wire.create("one")
        await wire.create("one", get_or_create=True)
        await wire.copy("one", "two")
        await wire.sessions.ImportSession(
            iter(
                [
                    ss.ImportSessionRequest(
                        session=Session(session_id="three"), messages=[openai("x")]
                    )
                ]
            )
        )
        for watcher in (here, there):
            events = [await watcher.event() for _ in range(3)]
            assert [(event.type, event.session_id) for event in events] == [
                ("session.created", name) for name in ("one", "two", "three")
            ]

    async def test_deleting_many_is_told_of_each(self, no_poll: None, wire: Wire) -> None:
        for name in ("a1", "a2", "b1"):
            await wire.create(name)
        watcher = await watching(wire)
        await wire.sessions.DeleteSessions(
            ss.DeleteSessionsRequest(filter={"session_id_prefix": "a"})
        )
        assert {
            (event.type, event.session_id)
            for event in [await watcher.event(), await watcher.event()]
        } == {
            ("session.deleted", "a1"),
            ("session.deleted", "a2"),
        }

    async def test_a_deletion_ends_the_watchers_after_its_event(
        self, no_poll: None, wire: Wire
    ) -> None:
        await wire.create("one")
        watcher = await watching(wire, "one")
        await wire.store("one", "x")
        await wire.delete("one")
        assert [(await watcher.event()).type, (await watcher.event()).type] == [
            "user.message",
            "session.deleted",
        ]
        assert (await watcher.error()).reason == "SESSION_NOT_FOUND"

    async def test_an_expiry_ends_the_watchers_after_its_event(
        self, no_poll: None, wire: Wire, purger: Purger, query: Callable[..., Any]
    ) -> None:
        await wire.create("one", idle_ttl_s=3600)
        project, watcher = await watching(wire), await watching(wire, "one")
        query(
            "UPDATE sessions SET used_at = used_at - interval '2 hours', expiry_check_at = used_at - interval '1 hour'"
        )
        await purger.round()
        assert (await watcher.event()).type == "session.expired"
        assert (await watcher.error()).reason == "SESSION_NOT_FOUND"
        event = await project.event()
        assert (event.type, event.session_id) == ("session.expired", "one")

    async def test_the_poll_finds_what_expired(self, wire: Wire, query: Callable[..., Any]) -> None:
        await wire.create("one", idle_ttl_s=3600)
        watcher = await watching(wire, "one")
        query("UPDATE sessions SET used_at = used_at - interval '2 hours'")
        assert (await watcher.event()).type == "session.expired"
        assert (await watcher.error()).reason == "SESSION_NOT_FOUND"

    async def test_the_poll_finds_what_is_gone(self, wire: Wire, query: Callable[..., Any]) -> None:
        await wire.create("one")
        watcher = await watching(wire, "one")
        query("DELETE FROM sessions")
        assert (await watcher.error()).reason == "SESSION_NOT_FOUND"

    async def test_a_watcher_keeps_the_session(self, wire: Wire, query: Callable[..., Any]) -> None:
        await wire.create("one", idle_ttl_s=3600)
        await watching(wire, "one")
        query("UPDATE sessions SET used_at = used_at - interval '30 minutes'")
        await until_async(
            lambda: (
                query("SELECT used_at > now() - interval '5 minutes' FROM sessions") == [(True,)]
            ),
            "the session was touched",
        )

    async def test_a_session_made_anew_is_another(
        self, no_poll: None, wire: Wire, query: Callable[..., Any]
    ) -> None:
        await wire.create("one")
        old = await watching(wire, "one")
        # As if another server had done it, and its notices were lost.
        query("DELETE FROM sessions")
        await wire.create("one")
        assert (await old.error()).reason == "SESSION_NOT_FOUND"
        new = await watching(wire, "one")
        await wire.store("one", "x")
        assert (await new.event()).seq == 1

    async def test_a_session_made_anew_is_watched_at_once(
        self, no_poll: None, wire: Wire, query: Callable[..., Any]
    ) -> None:
        await wire.create("one")
        old = await watching(wire, "one")
        query("UPDATE sessions SET log = gen_random_uuid()")
        new = await watching(wire, "one")
        await wire.store("one", "x")
        assert (await new.event()).seq == 1
        assert (await old.error()).reason == "SESSION_NOT_FOUND"


class TestProcesses:
    async def test_what_is_appended_at_one_is_seen_at_the_other(
        self, no_poll: None, wire: Wire, other_wire: Wire, both_listen: None
    ) -> None:
        await wire.create("one")
        watcher = await watching(other_wire, "one")
        for _ in range(20):
            await wire.store("one", "x")
        # That the session was created may be told late, since the other server's notices are collected.
        assert [seq for seq in seqs(await watcher.through(20)) if seq] == list(range(1, 21))
        await wire.delete("one")
        while (type_ := (await watcher.event()).type) == "session.created":
            pass
        assert type_ == "session.deleted"
        assert (await watcher.error()).reason == "SESSION_NOT_FOUND"

    async def test_a_connection_that_listens_is_made_anew(
        self,
        no_poll: None,
        wire: Wire,
        other_wire: Wire,
        both_listen: None,
        query: Callable[..., Any],
    ) -> None:
        await wire.create("one")
        watcher = await watching(other_wire, "one")
        query(f"SELECT pg_terminate_backend(pid) {LISTENS}", [APPLICATION_NAME])
        # The notice may be lost: then the look that a new connection begins with finds the message.
        await wire.store("one", "x")
        assert (await watcher.event()).seq == 1
        await until_async(
            lambda: query(f"SELECT count(*) {LISTENS}", [APPLICATION_NAME]) == [(2,)],
            "both servers listen again",
        )

    async def test_without_notices_the_poll_finds_it(
        self, wire: Wire, other_wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def lost(*_: object) -> None:
            pass

        monkeypatch.setattr(WatchStore, "notify", lost)
        await wire.create("one")
        watcher = await watching(other_wire, "one")
        await wire.store("one", "x", "y")
        assert seqs(await watcher.through(2)) == [1, 2]
        await wire.delete("one")
        assert (await watcher.error()).reason == "SESSION_NOT_FOUND"

    async def test_too_much_to_tell_becomes_one_hint(self) -> None:
        keys = [uuid.uuid4() for _ in range(400)]
        few = payloads("a", keys, [])
        assert all(len(payload.encode()) <= MAX_PAYLOAD_BYTES for payload in few)
        assert [item for payload in few for item in json.loads(payload)["items"]] == [
            key.hex for key in keys
        ]
        assert json.loads(payloads("a", keys * 2, [])[0])["items"] == [None]

    async def test_a_notice_of_another_version_is_a_hint_to_look(self) -> None:
        doubts: list[None] = []
        notices = Notifier(
            None, on_append=print, on_event=print, on_gap=lambda: doubts.append(None)
        )  # type: ignore[arg-type]
        for payload in (
            "",
            "[]",
            "{}",
            '{"from":"b","items":["x"]}',
            '{"from":"b","items":[["a","b","c","d","e"]]}',
            '{"from":"b","items":[null]}',
        ):
            notices._receive(payload)
        assert len(doubts) == 6


class TestSlow:
    async def test_a_slow_watcher_is_ended_and_others_go_on(
        self, no_poll: None, wire: Wire, server: Running
    ) -> None:
        await wire.create("one")
        options = [("grpc.http2.bdp_probe", 0)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=options) as apart:
            slow, quick = await watching(Wire(apart), "one"), await watching(wire, "one")
            received: list[Event] = []
            for i in range(100):
                await wire.store("one", "x" * 100_000)
                received += await quick.through(i + 1)
            assert seqs(received) == list(range(1, 101))
            (channel,) = server.watching._channels.values()
            assert sum(watcher.queued_bytes for watcher in channel.watchers) <= 2 * 1024 * 1024
            error = await slow.error()
            assert (error.code, error.reason, error.metadata["session_id"]) == (
                grpc.StatusCode.UNAVAILABLE,
                "WATCHER_TOO_SLOW",
                "one",
            )
            assert error.retry_s
            had = seqs(slow._events)
            assert had == list(range(1, len(had) + 1))
            assert len(had) < 100
            again = await watching(Wire(apart), "one", after_seq=had[-1])
            assert seqs(await again.through(100)) == list(range(had[-1] + 1, 101))


class TestEnds:
    async def test_a_drain_ends_watchers_at_once(self, wire: Wire, server: Running) -> None:
        await wire.create("one")
        watchers = [await watching(wire, "one"), await watching(wire)]
        draining = asyncio.ensure_future(drain(server, delay_s=0, timeout_s=3600))
        for watcher in watchers:
            error = await watcher.error()
            assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING")
        async with asyncio.timeout(PATIENCE_S):
            await draining

    async def test_nothing_is_left_of_those_who_went(self, wire: Wire, server: Running) -> None:
        await wire.create("one")
        watchers = [await watching(wire, "one"), await watching(wire)]
        hub = server.watching
        assert hub._channels
        assert hub._projects
        for watcher in watchers:
            watcher.call.cancel()
        await until_async(
            lambda: not (hub._channels or hub._projects or hub._tasks),
            "the watchers were forgotten",
        )

    async def test_no_connection_is_held(self, server: Running, wire: Wire) -> None:
        await wire.create("one")
        watchers = [await watching(wire, "one") for _ in range(50)]  # more than the pool has
        await wire.store("one", "x")
        for watcher in watchers:
            assert (await watcher.event()).seq == 1

    async def test_a_database_that_comes_back_is_read_on(
        self, no_poll: None, wire: Wire, query: Callable[..., Any]
    ) -> None:
        await wire.create("one")
        watcher = await watching(wire, "one")
        query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        while True:
            try:
                await wire.store("one", "x")
                break
            except grpc.aio.AioRpcError:
                continue  # on a connection that was cut
        assert (await watcher.event()).seq == 1


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
        # Its own event is the first that red gets, though blue's came before.
        assert [event.session_id for event in (await red.read()).events] == ["two"]
        assert [event.session_id for event in (await blue.read()).events] == ["one"]
