"""`client.assets`: every kind of source, downloads, and broken connections."""

import hashlib
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from sessiond import (
    Asset,
    AssetMismatch,
    AssetNotFound,
    InternalError,
    InvalidField,
    ServerUnavailable,
)
from sessiond.v1.asset_service_pb2 import Asset as AssetMessage
from sessiond.v1.asset_service_pb2 import DownloadAssetResponse
from sessiond_server.server import serving
from sessiond_server.settings import Settings

from ..support.proxy import CuttingProxy
from .conftest import Colour, FakeServer

CONTENT = bytes(range(256)) * 12_345
ASSET_ID = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
async def target(settings: Settings, database_url: str) -> AsyncIterator[str]:
    """HOST:PORT of a real server."""
    async with serving(settings, database_url) as running:
        yield f"127.0.0.1:{running.port}"


@pytest.fixture
async def real(colour: Colour, target: str) -> AsyncIterator[Any]:
    client = colour.client(target)
    yield client
    await colour.call(client.stop)


def names(directory: Path) -> list[str]:
    """The files in a directory, hidden ones included, except the server's own."""
    return sorted(path.name for path in directory.iterdir() if path.name != "assets")


def in_bits(content: bytes) -> Iterator[bytes]:
    """Yield the content in pieces of very different sizes."""
    start, size = 0, 1
    while start < len(content):
        yield content[start : start + size]
        start += size
        size = size * 3 % 700_001


async def in_bits_async(content: bytes) -> AsyncIterator[bytes]:
    for bit in in_bits(content):
        yield bit


async def test_every_source(colour: Colour, real: Any, tmp_path: Path) -> None:
    path = tmp_path / "a picture.png"
    path.write_bytes(CONTENT)
    with path.open("rb") as file:
        sources = [
            path,
            str(path),
            CONTENT,
            bytearray(CONTENT),
            memoryview(CONTENT),
            file,
            io.BytesIO(CONTENT),
            in_bits(CONTENT),
        ]
        if colour.is_async:
            sources.append(in_bits_async(CONTENT))
        for source in sources:
            asset = await colour.call(real.assets.upload, source)
            assert (asset.asset_id, asset.size, asset.media_type) == (
                ASSET_ID,
                len(CONTENT),
                "image/png",
            )
    assert await colour.call(real.assets.get, ASSET_ID) == asset


@pytest.mark.parametrize("empty", [b"", [], io.BytesIO()])
async def test_an_empty_asset(colour: Colour, real: Any, empty: Any) -> None:
    asset = await colour.call(real.assets.upload, empty)
    assert (asset.size, asset.media_type) == (0, "")
    assert await colour.call(real.assets.read, asset.asset_id) == b""


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("a.json", "application/json"), ("a.tar.gz", ""), ("a", ""), ("a.PDF", "application/pdf")],
)
async def test_the_name_says_the_media_type(
    colour: Colour, real: Any, tmp_path: Path, name: str, media_type: str
) -> None:
    (tmp_path / name).write_text(name)
    assert (await colour.call(real.assets.upload, tmp_path / name)).media_type == media_type
    given = await colour.call(
        real.assets.upload, f"{name} once more".encode(), media_type="text/x-mine"
    )
    assert given.media_type == "text/x-mine"


async def test_a_given_size_and_asset_id_are_checked(colour: Colour, real: Any) -> None:
    await colour.call(real.assets.upload, in_bits(CONTENT), asset_id=ASSET_ID, size=len(CONTENT))
    for wrong in ({"asset_id": "0" * 64}, {"size": 5}, {"size": len(CONTENT) + 1}):
        with pytest.raises(AssetMismatch) as raised:
            await colour.call(real.assets.upload, CONTENT, **wrong)
        assert raised.value.metadata["size"]
    with pytest.raises(InvalidField):
        await colour.call(real.assets.upload, CONTENT, asset_id="abc")
    with pytest.raises(InvalidField):
        await colour.call(real.assets.upload, CONTENT, size=2**70)


async def test_reading(colour: Colour, real: Any, tmp_path: Path) -> None:
    await colour.call(real.assets.upload, CONTENT)
    download = real.assets.download
    assert b"".join(await colour.collect(download(ASSET_ID))) == CONTENT
    assert (
        b"".join(await colour.collect(download(ASSET_ID, offset=1_000_001, length=777_777)))
        == CONTENT[1_000_001:1_777_778]
    )
    assert b"".join(await colour.collect(download(ASSET_ID, offset=len(CONTENT)))) == b""
    assert await colour.call(real.assets.read, ASSET_ID) == CONTENT
    target = tmp_path / "saved"
    target.write_text("what was there")
    await colour.call(real.assets.save, ASSET_ID, target)
    assert target.read_bytes() == CONTENT
    assert names(tmp_path) == ["saved"]
    for wrong in ({"length": 0}, {"offset": 2**70}):
        with pytest.raises(InvalidField):
            download(ASSET_ID, **wrong)
    with pytest.raises(InvalidField):
        await colour.collect(download(ASSET_ID, offset=len(CONTENT) + 1))


async def test_one_that_is_not_there(colour: Colour, real: Any, tmp_path: Path) -> None:
    nobody = "0" * 64
    calls = [
        (real.assets.get, nobody),
        (real.assets.read, nobody),
        (real.assets.save, nobody, tmp_path / "none"),
    ]
    for function, *arguments in calls:
        with pytest.raises(AssetNotFound) as raised:
            await colour.call(function, *arguments)
        assert raised.value.metadata["asset_id"] == nobody
    assert "none" not in names(tmp_path)
    assert not any(name.startswith(".") for name in names(tmp_path))
    with pytest.raises(FileNotFoundError):
        await colour.call(real.assets.upload, tmp_path / "none")


async def test_messages_refer_to_it(colour: Colour, real: Any) -> None:
    asset = await colour.call(real.assets.upload, b"x", media_type="text/plain")
    await colour.call(real.sessions.create, "one")
    message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": asset.uri}}]}
    stored = await colour.call(real.sessions.store_message, "one", message)
    assert stored.last_seq == 1
    with pytest.raises(AssetNotFound):
        await colour.call(
            real.sessions.store_message,
            "one",
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": f"sessiond-asset:{'0' * 64}"}}
                ],
            },
        )


@pytest.mark.parametrize("after", [0, 1, 5])
async def test_a_source_that_raises_stores_nothing(
    colour: Colour, real: Any, tmp_path: Path, after: int
) -> None:
    def breaking() -> Iterator[bytes]:
        for _ in range(after):
            yield bytes(300_000)
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        await colour.call(real.assets.upload, breaking())
    with pytest.raises(AssetNotFound):
        await colour.call(real.assets.get, hashlib.sha256(bytes(300_000 * after)).hexdigest())


@pytest.mark.parametrize("cuts", [(200_000, 1_000_000, 700, 2_000_000)])
async def test_cut_connections_are_not_noticed(
    colour: Colour, target: str, tmp_path: Path, cuts: tuple[int, ...]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    with CuttingProxy(target, cuts, upwards=True) as proxy:
        client = colour.client(proxy.target)
        assert (await colour.call(client.assets.upload, path)).asset_id == ASSET_ID
        assert proxy.cuts_made == len(cuts)
        await colour.call(client.stop)
    with CuttingProxy(target, cuts) as proxy:
        client = colour.client(proxy.target)
        assert (
            b"".join(
                await colour.collect(client.assets.download(ASSET_ID, offset=5, length=3_000_000))
            )
            == CONTENT[5:3_000_005]
        )
        await colour.call(client.assets.save, ASSET_ID, tmp_path / "saved")
        assert (tmp_path / "saved").read_bytes() == CONTENT
        assert proxy.cuts_made == len(cuts)
        await colour.call(client.stop)


async def test_an_iterator_is_not_sent_again(colour: Colour, target: str) -> None:
    with CuttingProxy(target, (1_000_000,), upwards=True) as proxy:
        client = colour.client(proxy.target)
        with pytest.raises(ServerUnavailable):
            await colour.call(client.assets.upload, in_bits(CONTENT))
        await colour.call(client.stop)


def answers(*pieces: bytes, size: int) -> list[Any]:
    first = DownloadAssetResponse(data=pieces[0], asset=AssetMessage(asset_id=ASSET_ID, size=size))
    return [first, *(DownloadAssetResponse(data=piece) for piece in pieces[1:])]


class TestScripted:
    """Failures that a test cannot provoke in a real server."""

    async def test_a_download_goes_on_where_it_was(
        self, colour: Colour, client: Any, server: FakeServer, impatient: None
    ) -> None:
        broken = server.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        server.on(
            "DownloadAsset",
            [*answers(b"abc", b"de", size=9), broken],
            [broken],
            answers(b"fgh", b"i", size=9),
        )
        assert await colour.collect(client.assets.download(ASSET_ID)) == [
            b"abc",
            b"de",
            b"fgh",
            b"i",
        ]
        assert [(ask.offset, ask.length) for ask in server.of("DownloadAsset")] == [
            (0, 0),
            (5, 0),
            (5, 0),
        ]

    async def test_a_range_goes_on_where_it_was(
        self, colour: Colour, client: Any, server: FakeServer, impatient: None
    ) -> None:
        broken = server.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        server.on("DownloadAsset", [*answers(b"cd", size=99), broken], answers(b"ef", size=99))
        assert await colour.collect(client.assets.download(ASSET_ID, offset=2, length=4)) == [
            b"cd",
            b"ef",
        ]
        assert [(ask.offset, ask.length) for ask in server.of("DownloadAsset")] == [(2, 4), (4, 2)]

    @pytest.mark.parametrize("length", [None, 5])
    async def test_an_end_that_is_lost_is_no_reason_to_ask(
        self, colour: Colour, client: Any, server: FakeServer, length: int | None
    ) -> None:
        """All bytes have arrived. A request for the rest would have length 0, which means all."""
        broken = server.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        server.on("DownloadAsset", [*answers(b"abc", b"de", size=5), broken])
        assert await colour.collect(client.assets.download(ASSET_ID, length=length)) == [
            b"abc",
            b"de",
        ]
        assert len(server.of("DownloadAsset")) == 1

    async def test_content_that_is_not_the_assets(
        self, colour: Colour, client: Any, server: FakeServer, tmp_path: Path
    ) -> None:
        server.on("DownloadAsset", answers(b"something else", size=14))
        with pytest.raises(InternalError):
            await colour.call(client.assets.read, ASSET_ID)
        with pytest.raises(InternalError):
            await colour.call(client.assets.save, ASSET_ID, tmp_path / "saved")
        assert names(tmp_path) == []

    async def test_an_upload_is_retried(
        self, colour: Colour, client: Any, server: FakeServer, impatient: None
    ) -> None:
        away = server.abort(
            grpc.StatusCode.UNAVAILABLE,
            "away",
            reason="ASSET_STORE_UNAVAILABLE",
            retry_after_s=0.001,
        )
        server.on("UploadAsset", away, away, AssetMessage(asset_id=ASSET_ID, size=3))
        assert (await colour.call(client.assets.upload, b"abc", media_type="a/b")).size == 3
        sent = server.of("UploadAsset")
        assert len(sent) == 3
        assert all(
            [(piece.data, piece.media_type, piece.size) for piece in pieces] == [(b"abc", "a/b", 3)]
            for pieces in sent
        )

    async def test_small_pieces_travel_together(
        self, colour: Colour, client: Any, server: FakeServer
    ) -> None:
        server.on("UploadAsset", AssetMessage())
        await colour.call(client.assets.upload, [b"12345"] * 100_000)
        [pieces] = server.of("UploadAsset")
        assert [len(piece.data) for piece in pieces] == [262_144, 237_856]


def test_an_asset_reads_like_a_record() -> None:
    asset = Asset(AssetMessage(asset_id=ASSET_ID, size=3, media_type="text/plain"))
    assert asset.uri == f"sessiond-asset:{ASSET_ID}"
    assert asset["assetId"] == asset["asset_id"] == ASSET_ID
    assert set(asset.to_dict()) == {"asset_id", "size", "media_type", "created_at", "uri"}
    assert "text/plain" in repr(asset)
