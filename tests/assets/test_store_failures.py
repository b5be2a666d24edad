"""Object stores that fail, and the leftovers of uploads that ended early."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from sessiond.v1.asset_service_pb2 import (
    UploadAssetRequest,
)
from sessiond_server.assets.store.assets import AssetStore
from sessiond_server.assets.store.objects import Objects, ObjectStoreUnavailable
from sessiond_server.assets.sweeper import Sweeper
from sessiond_server.core.ids import DEFAULT_PROJECT_ID
from sessiond_server.server import Running, serving
from sessiond_server.settings import Settings

from ..support.waiting import until_async
from ..support.wire import Wire, error_of
from .helpers import NOBODY, PIECE, Query, Store, get, pass_time, random_bytes, rows, upload


class TestLeftovers:
    """Leftovers of a killed server, and of a server whose store was unavailable."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return Store(tmp_path / "content", None)

    async def test_leftovers_of_a_killed_upload_are_removed_when_due(
        self, query: Query, store: Store, server: Running, sweeper: Sweeper
    ) -> None:
        announced = [f"{DEFAULT_PROJECT_ID.hex}/{number}" for number in range(3)]
        for key in announced:
            await AssetStore(server.database).announce(key)
        assert store.directory
        folder = store.directory / DEFAULT_PROJECT_ID.hex
        folder.mkdir(parents=True)
        # The three uploads ended before the first byte, midway, and before the asset was recorded.
        (folder / "1#1").write_bytes(b"a part")
        (folder / "2").write_bytes(b"the whole")
        assert await sweeper.round() == (0, 0)
        pass_time(query, 23.9 * 3600)
        assert await sweeper.round() == (0, 0)
        pass_time(query, 0.2 * 3600)
        assert await sweeper.round() == (0, 3)
        assert store.everything() == []
        assert rows(query) == (0, 0, 0)

    async def test_the_local_store_stages_under_the_name_that_is_removed(
        self, server: Running, store: Store
    ) -> None:
        """The library chooses the name of its staging file. This test notices a change."""
        staged: list[str] = []

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(60):
                yield bytes(PIECE)
            await until_async(lambda: bool(store.everything()), "a part was written")
            staged.extend(store.everything())

        await server.objects.put("folder/name", pieces())
        assert staged == ["folder/name#1"]
        assert store.everything() == ["folder/name"]

    async def test_an_upload_past_its_deadline_is_refused(
        self, wire: Wire, query: Query, server: Running, store: Store
    ) -> None:
        call = wire.assets.UploadAsset()
        await call.write(UploadAssetRequest(data=b"slow"))
        await until_async(lambda: rows(query)[2] == 1, "the upload was announced")
        pass_time(query, 25 * 3600)
        assert len(await AssetStore(server.database).take_due(10)) == 1
        await call.done_writing()
        assert (await error_of(call)).reason == "DEADLINE_EXCEEDED"
        assert store.everything() == []
        assert rows(query) == (0, 0, 0)

    async def test_objects_wait_for_a_store_that_is_unavailable(
        self,
        wire: Wire,
        query: Query,
        store: Store,
        server: Running,
        sweeper: Sweeper,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        asset = await upload(wire, b"content")
        pass_time(query)

        async def refuse(objects: Objects, key: str) -> None:
            raise ObjectStoreUnavailable("unavailable")

        with monkeypatch.context() as patch:
            patch.setattr(Objects, "delete", refuse)
            assert await sweeper.round() == (1, 0)
            # Record the leftovers of an upload during the outage.
            assert (await error_of(upload(wire, b"x", asset_id=NOBODY))).reason == "ASSET_MISMATCH"
        assert (await error_of(get(wire, asset.asset_id))).reason == "ASSET_NOT_FOUND"
        assert rows(query) == (0, 0, 2)
        assert len(store.everything()) == 1
        pass_time(query)
        assert await sweeper.round() == (0, 2)
        assert store.everything() == []
        assert rows(query) == (0, 0, 0)


async def test_an_unavailable_store_fails_uploads_only(
    settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    if store.directory:
        # A file at the directory's path makes the local store unavailable.
        store.directory.write_text("in the way")
    else:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    async with (
        serving(settings, database_url) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        for size in (10, 11_000_000):
            error = await error_of(upload(Wire(channel), random_bytes(size)))
            assert (error.code, error.reason) == (
                grpc.StatusCode.UNAVAILABLE,
                "ASSET_STORE_UNAVAILABLE",
            )
            assert error.retry_s
        # Calls without assets still work.
        await Wire(channel).create("one")
        assert (await Wire(channel).store("one", "x")).last_seq == 1
