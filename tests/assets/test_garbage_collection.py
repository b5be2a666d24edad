"""Garbage collection of assets: the references that keep an asset, and concurrent changes."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from sessiond.v1.asset_service_pb2 import (
    DownloadAssetRequest,
)
from sessiond_server.assets.store.assets import AssetStore, ScanPosition
from sessiond_server.assets.sweeper import Sweeper
from sessiond_server.retention.purger import Purger
from sessiond_server.retention.store.purge import PurgeStore
from sessiond_server.server import Running

from ..support.locks import LOCKS_LAST
from ..support.waiting import until_waiting
from ..support.wire import Wire, error_of, taken_apart
from .helpers import (
    Query,
    Store,
    download,
    get,
    mention,
    pass_time,
    rows,
    upload,
)


class TestKept:
    """Assets with references are kept. Those without are removed after the grace period."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return Store(tmp_path / "content", None)

    @pytest.fixture
    async def asset_id(self, wire: Wire) -> str:
        return str((await upload(wire, b"content")).asset_id)

    async def test_an_asset_is_removed_after_its_last_reference(
        self,
        wire: Wire,
        query: Query,
        store: Store,
        sweeper: Sweeper,
        purger: Purger,
        asset_id: str,
    ) -> None:
        for name in ("one", "two"):
            await wire.create(name)
            await wire.store(name, "x", mention(asset_id), mention(asset_id))
        unused = await upload(wire, b"nobody refers to this")
        assert await sweeper.round() == (0, 0)
        pass_time(query)
        assert await sweeper.round() == (1, 1)
        assert (await error_of(get(wire, unused.asset_id))).reason == "ASSET_NOT_FOUND"
        await wire.delete("one")
        await purger.round()
        assert rows(query) == (1, 2, 0)
        assert await sweeper.round() == (0, 0)
        assert await download(wire, asset_id) == b"content"
        await wire.delete("two")
        assert await sweeper.round() == (0, 0)
        await purger.round()
        assert await sweeper.round() == (1, 1)
        assert store.everything() == []
        assert rows(query) == (0, 0, 0)
        assert (
            await error_of(wire.assets.DownloadAsset(DownloadAssetRequest(asset_id=asset_id)))
        ).reason == "ASSET_NOT_FOUND"

    async def test_copies_share_the_references_of_their_source(
        self,
        wire: Wire,
        query: Query,
        store: Store,
        sweeper: Sweeper,
        purger: Purger,
        asset_id: str,
    ) -> None:
        """Copies of copies share the assets as well, even though flattening moves messages."""
        await wire.create("c0")
        await wire.store("c0", mention(asset_id))
        for i in range(20):
            await wire.copy(f"c{i}", f"c{i + 1}")
            await wire.store(f"c{i + 1}", "x")
        assert rows(query) == (1, 1, 0)
        pass_time(query)
        for i in range(20):
            await wire.delete(f"c{i}")
        await purger.round()
        assert await sweeper.round() == (0, 0)
        assert query("SELECT count(DISTINCT key) FROM messages") == [(1,)]
        assert await download(wire, asset_id) == b"content"
        await wire.delete("c20")
        await purger.round()
        assert await sweeper.round() == (1, 1)
        assert store.everything() == []
        assert rows(query) == (0, 0, 0)

    async def test_references_are_purged_after_their_messages(
        self, wire: Wire, query: Query, server: Running, asset_id: str
    ) -> None:
        await wire.create("one")
        await wire.store("one", *[mention(asset_id) for _ in range(10)])
        await wire.delete("one")
        purge = PurgeStore(server.database)
        for left in ((2, 10), (0, 4), (0, 0)):
            await purge.purge_logs(10, 8)
            assert query(
                "SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM asset_refs)"
            ) == [left]

    async def test_an_upload_restarts_the_grace_period(
        self, wire: Wire, query: Query, sweeper: Sweeper, asset_id: str
    ) -> None:
        pass_time(query)
        await upload(wire, b"content")
        assert await sweeper.round() == (0, 0)
        pass_time(query)
        assert await sweeper.round() == (1, 1)

    async def test_a_scan_continues_where_the_last_one_ended(
        self, wire: Wire, query: Query, server: Running
    ) -> None:
        await wire.create("one")
        for i in range(10):
            asset = await upload(wire, f"{i}".encode())
            if i % 2:
                await wire.store("one", mention(asset.asset_id))
        # All assets have the same time. The scan must still visit each exactly once.
        query("UPDATE assets SET touched_at = now() - interval '2 h'")
        store, place, removed = AssetStore(server.database), ScanPosition(), []
        for _ in range(4):
            scanned, count, place = await store.release_unreferenced(3600, place, 3)
            removed.append((scanned, count))
        assert [scanned for scanned, _ in removed] == [3, 3, 3, 1]
        assert sum(count for _, count in removed) == 5
        assert rows(query) == (5, 5, 5)

    async def test_sweepers_at_once_share_the_work(
        self, wire: Wire, query: Query, store: Store, server: Running
    ) -> None:
        await asyncio.gather(*(upload(wire, f"{i}".encode()) for i in range(100)))
        pass_time(query)
        sweepers = [
            Sweeper(AssetStore(server.database), server.objects, interval_s=1, grace_s=3600)
            for _ in range(4)
        ]
        done = await asyncio.gather(*(sweeper.round() for sweeper in sweepers))
        assert sum(assets for assets, _ in done) == 100
        # Objects that another sweeper had locked are removed one round later.
        done += [await sweepers[0].round()]
        assert sum(objects for _, objects in done) == 100
        assert store.everything() == []
        assert rows(query) == (0, 0, 0)


class TestRaces:
    """Garbage collection during uploads and appends, without a grace period."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return Store(tmp_path / "content", None)

    @pytest.fixture
    def sweeper(self, server: Running) -> Sweeper:
        return Sweeper(AssetStore(server.database), server.objects, interval_s=3600, grace_s=0)

    @staticmethod
    async def while_sweeping(sweeper: Sweeper, work: Any) -> None:
        async def sweep() -> None:
            while True:
                await sweeper.round()

        sweeping = asyncio.create_task(sweep())
        try:
            await work
        finally:
            sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await sweeping

    async def test_an_upload_during_garbage_collection_has_its_content_or_is_gone(
        self, wire: Wire, query: Query, store: Store, sweeper: Sweeper
    ) -> None:
        """Each asset either has its content, or does not exist."""

        async def work(number: int) -> None:
            for i in range(60):
                content = f"{i % 3}".encode()
                asset = await upload(wire, content)
                try:
                    assert await download(wire, asset.asset_id) == content
                except grpc.aio.AioRpcError as e:
                    if taken_apart(e).reason != "ASSET_NOT_FOUND":
                        raise

        await self.while_sweeping(sweeper, asyncio.gather(*(work(number) for number in range(4))))
        pass_time(query)
        await sweeper.round()
        assert store.everything() == []
        assert rows(query) == (0, 0, 0)

    async def test_a_stored_message_has_its_asset_during_garbage_collection(
        self, wire: Wire, query: Query, store: Store, sweeper: Sweeper
    ) -> None:
        """A stored message has its asset; if the asset is gone already, the message is refused."""
        outcomes: list[bool] = []

        async def work(number: int) -> None:
            await wire.create(f"s{number}")
            for i in range(60):
                content = f"{number}: {i}".encode()
                asset = await upload(wire, content)
                try:
                    await wire.store(f"s{number}", mention(asset.asset_id))
                except grpc.aio.AioRpcError as e:
                    if taken_apart(e).reason != "ASSET_NOT_FOUND":
                        raise
                    outcomes.append(False)
                else:
                    assert await download(wire, asset.asset_id) == content
                    outcomes.append(True)

        await self.while_sweeping(sweeper, asyncio.gather(*(work(number) for number in range(4))))
        pass_time(query)
        await sweeper.round()
        assert rows(query) == (outcomes.count(True), outcomes.count(True), 0)
        assert len(store.everything()) == outcomes.count(True)
        assert any(outcomes)

    @LOCKS_LAST
    async def test_garbage_collection_skips_assets_of_an_append_in_progress(
        self, wire: Wire, query: Query, database_url: str, server: Running, sweeper: Sweeper
    ) -> None:
        asset = await upload(wire, b"content")
        await wire.create("one")
        async with server.database.transaction() as connection:
            await connection.execute("SELECT FROM sessions FOR UPDATE")
            storing = asyncio.ensure_future(wire.store("one", mention(asset.asset_id)))
            await until_waiting(database_url)
            assert await sweeper.round() == (0, 0)
        await storing
        assert await sweeper.round() == (0, 0)
        assert rows(query) == (1, 1, 0)
