"""The files of assets that a request to a model contains."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from uuid import UUID

from sessiond_server.assets.service import Assets
from sessiond_server.formats.files import (
    MAGIC_BYTES,
    SHOWN_TYPES,
    media_type_of,
    plain_media_type,
    shown_type,
)
from sessiond_server.formats.wire import AssetInfo

UNKNOWN_TYPES = ("", "application/octet-stream")
MAX_KNOWN = 10_000


class AssetFiles:
    """Describes and loads the assets that messages refer to.

    An asset's id is the hash of its content, so the content never changes. Each process therefore
    reads the first bytes of an asset only once.
    """

    def __init__(self, assets: Assets, *, max_request_bytes: int) -> None:
        """Create the object.

        Args:
            assets: the assets.
            max_request_bytes: maximum size of a request. The first bytes are not read for a larger
                request, because it will be refused.
        """
        self._assets = assets
        self._max_request_bytes = max_request_bytes
        # The first bytes of assets, by asset_id.
        self._first: dict[str, bytes] = {}

    async def describe(self, project_id: UUID, asset_ids: Sequence[str]) -> Mapping[str, AssetInfo]:
        """Describe the assets that exist.

        The first bytes determine the type of pictures, PDFs and files of unknown type, because
        earlier versions stored the type that the caller gave.
        """
        rows = await self._assets.get_many(project_id, asset_ids)
        shown = (row.size for row in rows.values() if _is_shown(row.media_type))
        if sum(shown) > self._max_request_bytes:
            # The request will be refused, so nothing is read for it.
            return {id_: AssetInfo(row.media_type, row.size) for id_, row in rows.items()}
        described: dict[str, AssetInfo] = {}
        for asset_id, row in rows.items():
            media_type = row.media_type
            if media_type in UNKNOWN_TYPES:
                media_type = media_type_of(await self._begin(project_id, asset_id), media_type)
            elif _is_shown(media_type):
                media_type = shown_type(await self._begin(project_id, asset_id), media_type)
            described[asset_id] = AssetInfo(media_type, row.size)
        return described

    async def load(self, project_id: UUID, asset_id: str) -> AsyncGenerator[bytes, None]:
        """Yield the content of an asset, in pieces."""
        _, pieces = await self._assets.download(project_id, asset_id, 0, 0)
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece

    async def _begin(self, project_id: UUID, asset_id: str) -> bytes:
        """Return the first MAGIC_BYTES of an asset."""
        first = self._first.get(asset_id)
        if first is None:
            _, pieces = await self._assets.download(project_id, asset_id, 0, MAGIC_BYTES)
            async with aclosing(pieces):
                first = b"".join([piece async for piece in pieces])
            if len(self._first) >= MAX_KNOWN:
                self._first.clear()
            self._first[asset_id] = first
        return first


def _is_shown(media_type: str) -> bool:
    return plain_media_type(media_type) in SHOWN_TYPES
