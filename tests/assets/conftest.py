"""A server for each kind of object store: a directory and S3."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond_server.assets.store.assets import AssetStore
from sessiond_server.assets.sweeper import Sweeper
from sessiond_server.server import Running
from sessiond_server.settings import Settings

from ..support.s3 import S3, s3_server
from .helpers import Store


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "local":
        return Store(tmp_path / "content", None)
    s3: S3 = request.getfixturevalue("s3")
    s3.reset()
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return Store(None, s3)


@pytest.fixture
def settings(settings: Settings, store: Store) -> Settings:
    return settings.model_copy(
        update={"asset_store": store.location, "max_asset_bytes": 12_000_000}
    )


@pytest.fixture
def sweeper(server: Running) -> Sweeper:
    return Sweeper(AssetStore(server.database), server.objects, interval_s=3600, grace_s=3600)
