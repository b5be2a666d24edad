"""Watch at one server process, of what happens at another."""

from collections.abc import Callable
from typing import Any

import pytest

from sessiond_server.watch.store import APPLICATION_NAME, WatchStore

from ..support.waiting import until_async
from ..support.watching import seqs, watching
from ..support.wire import Wire
from .conftest import LISTENERS


class TestProcesses:
    async def test_events_reach_watchers_at_another_process(
        self, no_poll: None, wire: Wire, other_wire: Wire, both_listen: None
    ) -> None:
        await wire.create("one")
        watcher = await watching(other_wire, "one")
        for _ in range(20):
            await wire.store("one", "x")
        # session.created may arrive late, because the other server collects notifications.
        assert [seq for seq in seqs(await watcher.through(20)) if seq] == list(range(1, 21))
        await wire.delete("one")
        while (type_ := (await watcher.event()).type) == "session.created":
            pass
        assert type_ == "session.deleted"
        assert (await watcher.error()).reason == "SESSION_NOT_FOUND"

    async def test_a_broken_listening_connection_is_replaced(
        self,
        no_poll: None,
        wire: Wire,
        other_wire: Wire,
        both_listen: None,
        query: Callable[..., Any],
    ) -> None:
        await wire.create("one")
        watcher = await watching(other_wire, "one")
        query(f"SELECT pg_terminate_backend(pid) {LISTENERS}", [APPLICATION_NAME])
        # If the notification is lost, the check after the reconnection finds the message.
        await wire.store("one", "x")
        assert (await watcher.event()).seq == 1
        await until_async(
            lambda: query(f"SELECT count(*) {LISTENERS}", [APPLICATION_NAME]) == [(2,)],
            "both servers listen again",
        )

    async def test_the_poll_finds_what_no_notification_announced(
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
