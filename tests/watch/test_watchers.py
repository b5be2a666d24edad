"""Watchers: slow ones, shutdown, database connections, and several server processes."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from sessiond.v1.event_pb2 import Event
from sessiond_server.server import Running, drain
from sessiond_server.watch.store import APPLICATION_NAME, WatchStore

from ..support.waiting import until_async
from ..support.watching import PATIENCE_S, seqs, watching
from ..support.wire import Wire
from .conftest import LISTENERS


class TestSlowWatchers:
    async def test_a_slow_watcher_is_ended_and_others_continue(
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


class TestShutdown:
    async def test_a_drain_ends_watchers_at_once(self, wire: Wire, server: Running) -> None:
        await wire.create("one")
        watchers = [await watching(wire, "one"), await watching(wire)]
        draining = asyncio.ensure_future(drain(server, delay_s=0, timeout_s=3600))
        for watcher in watchers:
            error = await watcher.error()
            assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING")
        async with asyncio.timeout(PATIENCE_S):
            await draining

    async def test_watchers_that_disconnect_are_forgotten(
        self, wire: Wire, server: Running
    ) -> None:
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


class TestConnections:
    async def test_watchers_hold_no_connection(self, server: Running, wire: Wire) -> None:
        await wire.create("one")
        watchers = [await watching(wire, "one") for _ in range(50)]  # more than pool_size
        await wire.store("one", "x")
        for watcher in watchers:
            assert seqs(await watcher.through(1)) == [1]

    async def test_reading_continues_after_a_database_failure(
        self, no_poll: None, wire: Wire, query: Callable[..., Any]
    ) -> None:
        await wire.create("one")
        watcher = await watching(wire, "one")
        query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        while True:
            try:
                await wire.store("one", "x")
                break
            except grpc.aio.AioRpcError:
                continue  # the append had a connection that was cut
        assert seqs(await watcher.through(1)) == [1]


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
        assert seqs(await watcher.through(1)) == [1]
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
