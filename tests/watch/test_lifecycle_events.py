"""Watch: lifecycle events of sessions, and their effects on watchers."""

from collections.abc import Callable
from typing import Any
from unittest.mock import AsyncMock

import pytest

from sessiond.v1 import session_service_pb2 as ss
from sessiond.v1.session_pb2 import Session
from sessiond_server.retention.purger import Purger
from sessiond_server.server import Running
from sessiond_server.watch.hub import WatchHub

from ..support.waiting import until_async
from ..support.watching import PATIENCE_S, watching
from ..support.wire import Wire, openai


class TestLifecycleEvents:
    @pytest.mark.parametrize("session_id", ["one", ""])
    async def test_each_change_is_delivered(
        self, no_poll: None, wire: Wire, session_id: str
    ) -> None:
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

    async def test_new_sessions_reach_project_watchers_at_every_process(
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

    async def test_deleting_many_sessions_publishes_each(self, no_poll: None, wire: Wire) -> None:
        for name in ("a1", "a2", "b1"):
            await wire.create(name)
        watcher = await watching(wire)
        await wire.sessions.DeleteSessions(
            ss.DeleteSessionsRequest(filter=ss.SessionFilter(session_id_prefix="a"))
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
            "UPDATE sessions SET used_at = used_at - interval '2 hours',"
            " expiry_check_at = used_at - interval '1 hour'"
        )
        await purger.round()
        assert (await watcher.event()).type == "session.expired"
        assert (await watcher.error()).reason == "SESSION_NOT_FOUND"
        event = await project.event()
        assert (event.type, event.session_id) == ("session.expired", "one")

    async def test_the_poll_finds_an_expired_session(
        self, wire: Wire, query: Callable[..., Any]
    ) -> None:
        await wire.create("one", idle_ttl_s=3600)
        watcher = await watching(wire, "one")
        query("UPDATE sessions SET used_at = used_at - interval '2 hours'")
        assert (await watcher.event()).type == "session.expired"
        assert (await watcher.error()).reason == "SESSION_NOT_FOUND"

    async def test_the_poll_finds_a_deleted_session(
        self, wire: Wire, query: Callable[..., Any]
    ) -> None:
        await wire.create("one")
        watcher = await watching(wire, "one")
        query("DELETE FROM sessions")
        assert (await watcher.error()).reason == "SESSION_NOT_FOUND"

    async def test_the_event_of_a_deletion_arrives_though_a_poll_saw_the_deletion_first(
        self, no_poll: None, wire: Wire, server: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The event is published after the commit, and may come from another server."""
        check, dispatch, late = WatchHub._check_sessions, WatchHub._dispatch, []
        monkeypatch.setattr(WatchHub, "_check_sessions", AsyncMock())
        await wire.create("one")
        watcher = await watching(wire, "one")
        monkeypatch.setattr(WatchHub, "_dispatch", lambda _, event: late.append(event))
        await wire.delete("one")
        await check(server.watching, list(server.watching._channels.values()))
        dispatch(server.watching, late[0])
        assert (await watcher.event()).type == "session.deleted"
        assert (await watcher.error()).reason == "SESSION_NOT_FOUND"

    async def test_a_watched_session_does_not_expire(
        self, wire: Wire, query: Callable[..., Any]
    ) -> None:
        await wire.create("one", idle_ttl_s=3600)
        await watching(wire, "one")
        query("UPDATE sessions SET used_at = used_at - interval '30 minutes'")
        await until_async(
            lambda: (
                query("SELECT used_at > now() - interval '5 minutes' FROM sessions") == [(True,)]
            ),
            "the session was touched",
        )

    async def test_watchers_of_a_recreated_session_are_ended(
        self, no_poll: None, wire: Wire, query: Callable[..., Any]
    ) -> None:
        await wire.create("one")
        old = await watching(wire, "one")
        # This simulates a deletion by another server whose notifications were lost.
        query("DELETE FROM sessions")
        await wire.create("one")
        assert (await old.error()).reason == "SESSION_NOT_FOUND"
        new = await watching(wire, "one")
        await wire.store("one", "x")
        assert (await new.event()).seq == 1

    async def test_a_recreated_session_can_be_watched_at_once(
        self, no_poll: None, wire: Wire, query: Callable[..., Any]
    ) -> None:
        await wire.create("one")
        old = await watching(wire, "one")
        query("UPDATE sessions SET log = gen_random_uuid()")
        new = await watching(wire, "one")
        await wire.store("one", "x")
        assert (await new.event()).seq == 1
        assert (await old.error()).reason == "SESSION_NOT_FOUND"
