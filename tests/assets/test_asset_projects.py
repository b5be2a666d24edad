"""Each project has assets of its own."""

from typing import Any

import pytest

from sessiond.v1.asset_service_pb2 import (
    Asset,
    DownloadAssetRequest,
)
from sessiond.v1.session_pb2 import Session
from sessiond.v1.session_service_pb2 import CreateSessionRequest, StoreMessagesRequest
from sessiond_server.assets.sweeper import Sweeper
from sessiond_server.projects.service import Keys
from sessiond_server.projects.store import KeyStore
from sessiond_server.server import Running
from sessiond_server.settings import Settings

from ..support.wire import Wire, WireError, error_of
from .helpers import Query, Store, get, mention, pass_time, upload


class TestProjects:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"require_keys": True, "key_cache_s": 0.0})

    async def test_an_asset_of_another_project_is_not_found(
        self, wire: Wire, query: Query, store: Store, server: Running, sweeper: Sweeper
    ) -> None:
        keys = Keys(KeyStore(server.database))
        blue, red = [
            {
                "metadata": (
                    (
                        "authorization",
                        f"Bearer {(await keys.create_key(name, create_project=True)).secret}",
                    ),
                )
            }
            for name in ("blue", "red")
        ]

        async def missing(call: Any) -> WireError:
            error = await error_of(call)
            assert error.reason == "ASSET_NOT_FOUND"
            return error

        asset: Asset = await upload(wire, b"the same", options=blue)
        await missing(get(wire, asset.asset_id, **red))
        await missing(
            wire.assets.DownloadAsset(DownloadAssetRequest(asset_id=asset.asset_id), **red)
        )
        await wire.sessions.CreateSession(
            CreateSessionRequest(session=Session(session_id="one")), **red
        )
        request = StoreMessagesRequest(session_id="one", messages=[mention(asset.asset_id)])
        await missing(wire.sessions.StoreMessages(request, **red))
        await upload(wire, b"the same", options=red)
        assert len(store.everything()) == 2
        await wire.sessions.StoreMessages(request, **red)
        pass_time(query)
        assert await sweeper.round() == (1, 1)
        await missing(get(wire, asset.asset_id, **blue))
        assert (await get(wire, asset.asset_id, **red)).size == 8
