"""UploadAsset: content, sizes, and refused uploads."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import grpc
import pytest

from sessiond.v1.asset_service_pb2 import (
    UploadAssetRequest,
)
from sessiond_server.assets.store import objects as objects_module
from sessiond_server.assets.store.objects import ObjectStoreUnavailable
from sessiond_server.assets.sweeper import Sweeper
from sessiond_server.server import Running

from ..support.waiting import until_async
from ..support.wire import Wire, error_of
from .helpers import (
    NOBODY,
    PIECE,
    Query,
    Store,
    download,
    get,
    pass_time,
    pieces,
    random_bytes,
    requests_of,
    rows,
    upload,
)


# Sizes from one request to several parts of a multipart upload, also just above each limit.
@pytest.mark.parametrize(
    "size",
    [0, 1, PIECE, PIECE + 1, objects_module.PART_BYTES, objects_module.PART_BYTES + 1, 11_000_000],
)
async def test_an_uploaded_asset_is_downloaded_unchanged(
    wire: Wire, query: Query, store: Store, size: int
) -> None:
    content = random_bytes(size)
    asset_id = hashlib.sha256(content).hexdigest()
    asset = await upload(wire, content, media_type="image/png")
    assert (asset.asset_id, asset.size, asset.media_type) == (asset_id, size, "image/png")
    assert asset.create_time.ToNanoseconds() > 0
    assert await get(wire, asset_id) == asset
    answered = await pieces(wire, asset_id)
    assert b"".join(piece.data for piece in answered) == content
    assert answered[0].asset == asset
    assert not any(piece.HasField("asset") for piece in answered[1:])
    assert max(len(piece.data) for piece in answered) <= PIECE
    assert len(store.everything()) == 1
    assert rows(query) == (1, 0, 0)


async def test_pieces_may_have_any_size(wire: Wire) -> None:
    content = random_bytes(8_000_000)
    by_sizes = [await upload(wire, content, piece=size) for size in (7_777_777, 31_000, 1_000_000)]
    assert by_sizes[0] == by_sizes[1] == by_sizes[2]
    empty = [
        UploadAssetRequest(),
        UploadAssetRequest(data=b"a"),
        UploadAssetRequest(),
        UploadAssetRequest(data=b"b"),
        UploadAssetRequest(),
    ]
    assert (await wire.assets.UploadAsset(iter(empty))).asset_id == hashlib.sha256(
        b"ab"
    ).hexdigest()
    assert (await wire.assets.UploadAsset(iter([]))).asset_id == hashlib.sha256(b"").hexdigest()


async def test_the_same_content_is_stored_once(wire: Wire, query: Query, store: Store) -> None:
    first = await upload(wire, b"the same", media_type="text/plain")
    again = await upload(wire, b"the same", media_type="image/png")
    assert again == first
    assert len(store.everything()) == 1
    assert rows(query) == (1, 0, 0)


async def test_uploads_of_the_same_content_at_once_are_one(
    wire: Wire, query: Query, store: Store
) -> None:
    content = random_bytes(400_000)
    assets = await asyncio.gather(*(upload(wire, content) for _ in range(16)))
    assert len({asset.SerializeToString() for asset in assets}) == 1
    assert len(store.everything()) == 1
    assert rows(query) == (1, 0, 0)
    assert await download(wire, assets[0].asset_id) == content


class TestRefusedUploads:
    """Refused uploads, which leave nothing."""

    @pytest.fixture(autouse=True)
    def nothing_is_left(self, query: Query, store: Store, server: Running) -> Iterator[None]:
        yield
        assert store.everything() == []
        assert rows(query) == (0, 0, 0)

    @pytest.mark.parametrize(
        ("head", "field"),
        [
            ({"media_type": "x" * 257}, "media_type"),
            ({"media_type": "image/\n"}, "media_type"),
            ({"asset_id": "abc"}, "asset_id"),
            ({"asset_id": "A" * 64}, "asset_id"),
            ({"asset_id": "0" * 65}, "asset_id"),
            ({"asset_id": "0" * 63 + "\n"}, "asset_id"),
            ({"size": -1}, "size"),
        ],
    )
    async def test_malformed_fields_are_named(
        self, wire: Wire, head: dict[str, Any], field: str
    ) -> None:
        error = await error_of(upload(wire, b"x", **head))
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        assert list(error.fields) == [field]

    @pytest.mark.parametrize("head", [{"size": 12_000_001}, {}], ids=["declared", "sent"])
    async def test_an_upload_above_the_limit_is_refused(
        self, wire: Wire, head: dict[str, Any]
    ) -> None:
        error = await error_of(upload(wire, random_bytes(20_000_000), **head))
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "ASSET_TOO_LARGE")
        assert error.metadata["max_bytes"] == "12000000"
        assert list(error.fields) == ["size" if head else "data"]

    async def test_an_upload_above_the_limit_is_refused_before_its_end(self, wire: Wire) -> None:
        call = wire.assets.UploadAsset()
        for request in requests_of(random_bytes(12_000_001)):
            await call.write(request)
        # The error must arrive although the client neither ends the stream nor writes.
        assert (await error_of(call)).reason == "ASSET_TOO_LARGE"

    @pytest.mark.parametrize("size", [100, 7_000_000])
    @pytest.mark.parametrize("wrong", ["asset_id", "less", "more"])
    async def test_content_that_differs_from_the_declaration_is_refused(
        self, wire: Wire, size: int, wrong: str
    ) -> None:
        content = random_bytes(size)
        head: dict[str, Any] = (
            {"asset_id": NOBODY}
            if wrong == "asset_id"
            else {"size": size - 1 if wrong == "less" else size + 1}
        )
        error = await error_of(upload(wire, content, **head))
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "ASSET_MISMATCH")
        assert list(error.fields) == list(head)
        assert error.metadata["size"] == str(size)
        assert error.metadata["asset_id"] == hashlib.sha256(content).hexdigest()

    async def test_a_declared_id_and_size_that_match_are_accepted(
        self, wire: Wire, query: Query, server: Running, sweeper: Sweeper
    ) -> None:
        content = random_bytes(7_000_000)
        asset_id = hashlib.sha256(content).hexdigest()
        assert (
            await upload(wire, content, asset_id=asset_id, size=len(content))
        ).asset_id == asset_id
        pass_time(query)
        assert await sweeper.round() == (1, 1)

    @pytest.mark.parametrize("size", [0, 100, 300_000, 8_000_000])
    async def test_client_disconnect_leaves_nothing(
        self, wire: Wire, server: Running, query: Query, store: Store, size: int
    ) -> None:
        for _ in range(5):
            call = wire.assets.UploadAsset()
            for request in requests_of(random_bytes(size)):
                await call.write(request)
            call.cancel()
            with suppress(asyncio.CancelledError):
                await call
        # Calls on a connection arrive in order, so after this one the server has received all
        # uploads.
        await error_of(get(wire, NOBODY))
        await until_async(lambda: server.admission.calls == 0, "the calls ended")
        await until_async(
            lambda: rows(query) == (0, 0, 0) and not store.everything(), "nothing was left"
        )

    @pytest.mark.parametrize(
        ("pieces_before", "error"), [(1, ObjectStoreUnavailable), (30, OSError)]
    )
    async def test_a_store_that_fails_midway_leaves_nothing(
        self,
        wire: Wire,
        store: Store,
        server: Running,
        monkeypatch: pytest.MonkeyPatch,
        pieces_before: int,
        error: type[Exception],
    ) -> None:
        """The store fails midway, and the server removes the part that was stored."""
        queued = objects_module._queued

        async def failing(*args: Any) -> AsyncIterator[bytes]:
            count = 0
            async for piece in queued(*args):
                count += 1
                if count == pieces_before:
                    raise error("no space left on device")
                yield piece

        monkeypatch.setattr(objects_module, "_queued", failing)
        told = await error_of(upload(wire, random_bytes(11_000_000)))
        assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, "ASSET_STORE_UNAVAILABLE")
        assert told.retry_s


PNG, JPEG = b"\x89PNG\r\n\x1a\n" + b"x" * 50, b"\xff\xd8\xff\xe0" + b"x" * 50


@pytest.mark.parametrize(
    ("content", "given", "stored"),
    [
        (JPEG, "image/png", "image/jpeg"),
        (PNG, "image/JPG", "image/png"),
        (PNG, "application/pdf", "image/png"),
        (PNG, "image/png", "image/png"),
        (PNG, "", ""),
        (PNG, "text/plain", "text/plain"),
        (b"unknown", "image/png", "image/png"),
    ],
)
async def test_the_type_of_a_picture_is_what_its_content_shows(
    wire: Wire, content: bytes, given: str, stored: str
) -> None:
    assert (await upload(wire, content, media_type=given)).media_type == stored
