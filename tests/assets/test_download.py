"""DownloadAsset and GetAsset."""

import grpc
import pytest

from sessiond.v1.asset_service_pb2 import (
    DownloadAssetRequest,
)
from sessiond_server.server import Running

from ..support.waiting import until_async
from ..support.wire import Wire, error_of
from .helpers import NOBODY, PIECE, Query, get, pieces, random_bytes, upload


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (0, 1),
        (1, 0),
        (999_999, 3),
        (0, 3_000_001),
        (2_999_999, 0),
        (3_000_000, 0),
        (3_000_000, 5),
        (PIECE, PIECE),
        (1024 * 1024 - 1, 2),
    ],
)
async def test_a_range_is_downloaded(wire: Wire, offset: int, length: int) -> None:
    content = random_bytes(3_000_000)
    asset = await upload(wire, content)
    answered = await pieces(wire, asset.asset_id, offset=offset, length=length)
    assert (
        b"".join(piece.data for piece in answered)
        == content[offset : offset + length if length else None]
    )
    assert answered[0].asset == asset


class TestDownloads:
    @pytest.mark.parametrize("fields", [{"offset": -1}, {"length": -1}, {"offset": 5}])
    async def test_ranges_outside_the_asset_are_refused(
        self, wire: Wire, fields: dict[str, int]
    ) -> None:
        asset = await upload(wire, b"1234")
        error = await error_of(
            wire.assets.DownloadAsset(DownloadAssetRequest(asset_id=asset.asset_id, **fields))
        )
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        assert list(error.fields) == list(fields)

    @pytest.mark.parametrize(
        ("asset_id", "reason"),
        [("", "INVALID_FIELD"), ("x" * 64, "INVALID_FIELD"), (NOBODY, "ASSET_NOT_FOUND")],
    )
    async def test_malformed_and_unknown_ids_are_refused(
        self, wire: Wire, asset_id: str, reason: str
    ) -> None:
        for call in (
            get(wire, asset_id),
            wire.assets.DownloadAsset(DownloadAssetRequest(asset_id=asset_id)),
        ):
            error = await error_of(call)
            assert error.reason == reason
            if reason == "ASSET_NOT_FOUND":
                assert (error.code, error.metadata["asset_id"]) == (
                    grpc.StatusCode.NOT_FOUND,
                    asset_id,
                )
            else:
                assert list(error.fields) == ["asset_id"]

    async def test_an_object_removed_during_a_download_is_not_found(
        self, wire: Wire, server: Running, query: Query
    ) -> None:
        content = random_bytes(9_000_000)
        asset = await upload(wire, content)
        call = wire.assets.DownloadAsset(DownloadAssetRequest(asset_id=asset.asset_id))
        assert (await anext(aiter(call))).asset == asset
        await server.objects.delete(str(query("SELECT object_key FROM assets")[0][0]))
        assert (await error_of(call)).reason == "ASSET_NOT_FOUND"

    async def test_client_disconnect_ends_the_download(self, wire: Wire, server: Running) -> None:
        asset = await upload(wire, random_bytes(9_000_000))
        for _ in range(10):
            call = wire.assets.DownloadAsset(DownloadAssetRequest(asset_id=asset.asset_id))
            await call.read()
            call.cancel()
        await until_async(lambda: server.admission.calls == 0, "the calls ended")
