"""AssetService on the wire."""

from collections.abc import AsyncGenerator, AsyncIterator

from sessiond.v1.asset_service_pb2 import Asset, DownloadAssetRequest, DownloadAssetResponse, GetAssetRequest, UploadAssetRequest
from sessiond_server.service.assets import Assets
from sessiond_server.service.keys import Caller

# Method names are those of the protos.
# ruff: noqa: N802


class AssetServicer:
    """The methods of AssetService, as calls.Servicer has them."""

    needs_admin = False

    def __init__(self, assets: Assets) -> None:
        self._assets = assets

    async def UploadAsset(self, requests: AsyncIterator[UploadAssetRequest], caller: Caller) -> Asset:
        raise NotImplementedError

    async def DownloadAsset(self, request: DownloadAssetRequest, caller: Caller) -> AsyncGenerator[DownloadAssetResponse, None]:
        raise NotImplementedError
        yield DownloadAssetResponse()

    async def GetAsset(self, request: GetAssetRequest, caller: Caller) -> Asset:
        raise NotImplementedError
