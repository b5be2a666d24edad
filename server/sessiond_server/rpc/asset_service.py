"""AssetService: converts requests, calls the features, converts responses."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from sessiond.v1.asset_service_pb2 import (
    Asset,
    DownloadAssetRequest,
    DownloadAssetResponse,
    GetAssetRequest,
    UploadAssetRequest,
)
from sessiond_server.assets.service import Assets, Upload
from sessiond_server.assets.store.assets import AssetRow
from sessiond_server.projects.authentication import Caller
from sessiond_server.rpc.admission import Admission

# Methods are named as in the protos.
# ruff: noqa: N802


class AssetServicer:
    """The methods of AssetService; see handlers.Servicer."""

    needs_admin = False

    def __init__(self, assets: Assets, admission: Admission) -> None:
        self._assets = assets
        self._admission = admission

    async def UploadAsset(
        self, requests: AsyncIterator[UploadAssetRequest], caller: Caller
    ) -> Asset:
        # A stream without pieces is an empty asset, like a stream with one empty piece.
        first = await anext(requests, None) or UploadAssetRequest()

        async def pieces() -> AsyncIterator[bytes]:
            yield first.data
            async for request in requests:
                yield request.data

        row = await self._assets.upload(
            Upload(caller.project_id, first.media_type, first.asset_id, first.size), pieces()
        )
        return _asset(row)

    async def DownloadAsset(
        self, request: DownloadAssetRequest, caller: Caller
    ) -> AsyncGenerator[bytes, None]:
        row, pieces = await self._assets.download(
            caller.project_id, request.asset_id, request.offset, request.length
        )
        asset: Asset | None = _asset(row)
        async with aclosing(pieces):
            async for piece in pieces:
                self._admission.check_draining()
                yield DownloadAssetResponse(data=piece, asset=asset).SerializeToString()
                asset = None

    async def GetAsset(self, request: GetAssetRequest, caller: Caller) -> Asset:
        return _asset(await self._assets.get(caller.project_id, request.asset_id))


def _asset(row: AssetRow) -> Asset:
    asset = Asset(asset_id=row.sha256.hex(), size=row.size, media_type=row.media_type)
    asset.create_time.FromMicroseconds(row.created_us)
    return asset
