"""Assets: what UploadAsset, DownloadAsset and GetAsset promise, who keeps an asset, and what the sweep removes."""

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from sessiond.v1.asset_service_pb2 import (
    Asset,
    DownloadAssetRequest,
    DownloadAssetResponse,
    GetAssetRequest,
    UploadAssetRequest,
)
from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    ROLE_USER,
    Blob,
    Message,
    Part,
    Parts,
    ToolResult,
)
from sessiond.v1.session_pb2 import Session
from sessiond.v1.session_service_pb2 import CreateSessionRequest, StoreMessagesRequest
from sessiond_server.assets.store import objects as objects_module
from sessiond_server.assets.store.assets import AssetStore, ScanPosition
from sessiond_server.assets.store.objects import Objects, ObjectStoreUnavailable
from sessiond_server.assets.sweeper import Sweeper
from sessiond_server.core.ids import DEFAULT_PROJECT_ID
from sessiond_server.projects.service import Keys
from sessiond_server.projects.store import KeyStore
from sessiond_server.retention.purger import Purger
from sessiond_server.retention.store import PurgeStore
from sessiond_server.server import Running, serving
from sessiond_server.settings import Settings

from ..support.s3 import BUCKET, S3, s3_server
from ..support.waiting import until_async
from ..support.wire import Wire, WireError, error_of, openai, taken_apart

Query = Callable[..., list[tuple[object, ...]]]

PIECE = 256 * 1024
NOBODY = hashlib.sha256(b"nobody has this").hexdigest()


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


class Store:
    """The store under test, as its operator sees it."""

    def __init__(self, directory: Path | None, s3: S3 | None) -> None:
        self.directory, self.s3 = directory, s3

    @property
    def location(self) -> str:
        return str(self.directory) if self.directory else f"s3://{BUCKET}/some/prefix"

    def everything(self) -> list[str]:
        """All that lies there: objects, and what is left of others."""
        if self.s3:
            return self.s3.keys() + self.s3.uploads()
        assert self.directory
        return sorted(
            str(path.relative_to(self.directory))
            for path in self.directory.rglob("*")
            if path.is_file()
        )


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


def random_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def requests_of(content: bytes, piece: int = PIECE, **head: Any) -> list[UploadAssetRequest]:
    """The pieces of an upload; an empty asset has one without data."""
    requests = [
        UploadAssetRequest(data=content[start : start + piece])
        for start in range(0, len(content), piece)
    ]
    requests = requests or [UploadAssetRequest()]
    for name, value in head.items():
        setattr(requests[0], name, value)
    return requests


def upload(
    wire: Wire,
    content: bytes,
    *,
    piece: int = PIECE,
    options: dict[str, Any] | None = None,
    **head: Any,
) -> Any:
    """The call, to be awaited."""
    return wire.assets.UploadAsset(iter(requests_of(content, piece, **head)), **(options or {}))


async def pieces(wire: Wire, asset_id: str, **fields: Any) -> list[DownloadAssetResponse]:
    return [
        piece
        async for piece in wire.assets.DownloadAsset(
            DownloadAssetRequest(asset_id=asset_id, **fields)
        )
    ]


async def download(wire: Wire, asset_id: str, **fields: Any) -> bytes:
    return b"".join(piece.data for piece in await pieces(wire, asset_id, **fields))


def get(wire: Wire, asset_id: str, **options: Any) -> Any:
    return wire.assets.GetAsset(GetAssetRequest(asset_id=asset_id), **options)


def mention(asset_id: str) -> Message:
    return openai(f"look at sessiond-asset:{asset_id}, please")


def pass_time(query: Query, seconds: float = 7200) -> None:
    """Uploads were so long ago, and what is given up is due."""
    query("UPDATE assets SET touched_at = touched_at - %s * interval '1 s'", [seconds])
    query("UPDATE loose_objects SET due_at = due_at - %s * interval '1 s'", [seconds])


def rows(query: Query) -> tuple[object, ...]:
    """How many (assets, references, loose objects) there are."""
    return query(
        "SELECT (SELECT count(*) FROM assets), (SELECT count(*) FROM asset_refs), (SELECT count(*) FROM loose_objects)"
    )[0]


@pytest.fixture
def sweeper(server: Running) -> Sweeper:
    return Sweeper(AssetStore(server.database), server.objects, interval_s=3600, grace_s=3600)


# One request's worth, several parts of a multipart upload, and what lies at the edges.
@pytest.mark.parametrize(
    "size",
    [0, 1, PIECE, PIECE + 1, objects_module.PART_BYTES, objects_module.PART_BYTES + 1, 11_000_000],
)
async def test_what_goes_up_comes_down(wire: Wire, query: Query, store: Store, size: int) -> None:
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
async def test_ranges(wire: Wire, offset: int, length: int) -> None:
    content = random_bytes(3_000_000)
    asset = await upload(wire, content)
    answered = await pieces(wire, asset.asset_id, offset=offset, length=length)
    assert (
        b"".join(piece.data for piece in answered)
        == content[offset : offset + length if length else None]
    )
    assert answered[0].asset == asset


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


class TestRefused:
    """Uploads that are refused, and that nothing is left of."""

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
    async def test_fields(self, wire: Wire, head: dict[str, Any], field: str) -> None:
        error = await error_of(upload(wire, b"x", **head))
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        assert list(error.fields) == [field]

    @pytest.mark.parametrize("head", [{"size": 12_000_001}, {}], ids=["declared", "sent"])
    async def test_too_large(self, wire: Wire, head: dict[str, Any]) -> None:
        error = await error_of(upload(wire, random_bytes(20_000_000), **head))
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "ASSET_TOO_LARGE")
        assert error.metadata["max_bytes"] == "12000000"
        assert list(error.fields) == ["size" if head else "data"]

    async def test_too_large_is_told_before_the_end(self, wire: Wire) -> None:
        call = wire.assets.UploadAsset()
        for request in requests_of(random_bytes(12_000_001)):
            await call.write(request)
        # The stream is not ended, and nobody writes: the answer comes.
        assert (await error_of(call)).reason == "ASSET_TOO_LARGE"

    @pytest.mark.parametrize("size", [100, 7_000_000])
    @pytest.mark.parametrize("wrong", ["asset_id", "less", "more"])
    async def test_mismatches(self, wire: Wire, size: int, wrong: str) -> None:
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

    async def test_what_is_known_before_and_right(
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
    async def test_a_client_that_goes_away(
        self, wire: Wire, server: Running, query: Query, store: Store, size: int
    ) -> None:
        for _ in range(5):
            call = wire.assets.UploadAsset()
            for request in requests_of(random_bytes(size)):
                await call.write(request)
            call.cancel()
            with suppress(asyncio.CancelledError):
                await call
        # Whatever the server has heard of by now, it has heard of all the uploads.
        await error_of(get(wire, NOBODY))
        await until_async(lambda: server.admission.calls == 0, "the calls ended")
        await until_async(
            lambda: rows(query) == (0, 0, 0) and not store.everything(), "nothing was left"
        )

    @pytest.mark.parametrize(
        ("pieces_before", "error"), [(1, ObjectStoreUnavailable), (30, OSError)]
    )
    async def test_a_store_that_fails(
        self,
        wire: Wire,
        store: Store,
        server: Running,
        monkeypatch: pytest.MonkeyPatch,
        pieces_before: int,
        error: type[Exception],
    ) -> None:
        """The store breaks off in the middle; what it has by then goes."""
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


class TestDownloads:
    @pytest.mark.parametrize("fields", [{"offset": -1}, {"length": -1}, {"offset": 5}])
    async def test_fields(self, wire: Wire, fields: dict[str, int]) -> None:
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
    async def test_ids(self, wire: Wire, asset_id: str, reason: str) -> None:
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

    async def test_an_object_that_vanishes(self, wire: Wire, server: Running, query: Query) -> None:
        content = random_bytes(9_000_000)
        asset = await upload(wire, content)
        call = wire.assets.DownloadAsset(DownloadAssetRequest(asset_id=asset.asset_id))
        assert (await anext(aiter(call))).asset == asset
        await server.objects.delete(str(query("SELECT object_key FROM assets")[0][0]))
        assert (await error_of(call)).reason == "ASSET_NOT_FOUND"

    async def test_readers_that_leave(self, wire: Wire, server: Running) -> None:
        asset = await upload(wire, random_bytes(9_000_000))
        for _ in range(10):
            call = wire.assets.DownloadAsset(DownloadAssetRequest(asset_id=asset.asset_id))
            await call.read()
            call.cancel()
        await until_async(lambda: server.admission.calls == 0, "the calls ended")


class TestReferences:
    """What keeps an asset. One store stands for both: the content is not looked at."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return Store(tmp_path / "content", None)

    @pytest.fixture
    async def asset_id(self, wire: Wire) -> str:
        return str((await upload(wire, b"content")).asset_id)

    @staticmethod
    def with_part(part: Part) -> Message:
        return Message(role=ROLE_USER, parts=Parts(parts=[Part(text="see"), part]))

    @staticmethod
    def blob(kind: str, asset_id: str) -> Part:
        return Part(**{kind: Blob(asset_id=asset_id)})

    @pytest.mark.parametrize("imported", [False, True], ids=["stored", "imported"])
    @pytest.mark.parametrize("kind", ["image", "audio", "file", "result", "json"])
    async def test_every_place_that_names_one(
        self, wire: Wire, query: Query, asset_id: str, kind: str, imported: bool
    ) -> None:
        def message(named: str) -> Message:
            if kind == "json":
                return Message(
                    format=FORMAT_ANTHROPIC,
                    json=json.dumps(
                        {"role": "user", "content": [{"u": f"sessiond-asset:{named}"}]}
                    ),
                )
            if kind == "result":
                return self.with_part(
                    Part(
                        tool_result=ToolResult(
                            call_id="c", parts=[Part(text="x"), self.blob("image", named)]
                        )
                    )
                )
            return self.with_part(self.blob(kind, named))

        path = {
            "json": "messages[2].json",
            "result": "messages[2].parts.parts[1].tool_result.parts[1].image.asset_id",
        }.get(kind, f"messages[2].parts.parts[1].{kind}.asset_id")

        async def store(named: str) -> Any:
            batch = [openai("a"), openai("b"), message(named)]
            return await (
                wire.import_("one", [batch[:1], batch[1:]])
                if imported
                else wire.store("one", *batch)
            )

        await wire.create("one")
        error = await error_of(store(NOBODY))
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "ASSET_NOT_FOUND")
        assert error.metadata["asset_id"] == NOBODY
        assert list(error.fields) == [path]
        assert (await wire.get("one")).last_seq == 0
        stored = await store(asset_id)
        assert (stored.first_seq, stored.last_seq) == (1, 3)
        assert query("SELECT seq, encode(sha256, 'hex') FROM asset_refs") == [(3, asset_id)]
        assert query(
            "SELECT count(*) FROM messages m JOIN asset_refs r USING (key, log, seq) WHERE r.project_id = %s",
            [DEFAULT_PROJECT_ID],
        ) == [(1,)]
        if kind not in ("json", "result"):
            assert getattr((await wire.message("one", 3)).parts.parts[1], kind).asset_id == asset_id

    @pytest.mark.parametrize("malformed", ["", "abc", "F" * 64, "0" * 65])
    async def test_a_malformed_id_in_a_part(self, wire: Wire, malformed: str) -> None:
        await wire.create("one")
        error = await error_of(wire.store("one", self.with_part(self.blob("file", malformed))))
        assert error.reason == "INVALID_FIELD"
        assert list(error.fields) == ["messages[0].parts.parts[1].file.asset_id"]

    @pytest.mark.parametrize(
        "text", ["", "abc", NOBODY[:-1], NOBODY + "0", NOBODY.upper()[:63] + "F", " " + NOBODY]
    )
    async def test_other_text_is_text(self, wire: Wire, query: Query, text: str) -> None:
        await wire.create("one")
        await wire.store("one", openai(f"sessiond-asset:{text}"))
        await wire.import_("one", [[openai(f"sessiond-asset:{text}")]])
        assert rows(query) == (0, 0, 0)

    async def test_one_message_and_many_assets(self, wire: Wire, query: Query) -> None:
        ids = [(await upload(wire, f"{i}".encode())).asset_id for i in range(20)]
        await wire.create("one")
        names = " ".join(f"sessiond-asset:{asset_id}" for asset_id in ids + ids)
        await wire.store(
            "one", openai(names), "nothing", mention(ids[3]), openai(names, "assistant")
        )
        assert query("SELECT seq, count(*) FROM asset_refs GROUP BY seq ORDER BY seq") == [
            (1, 20),
            (3, 1),
            (4, 20),
        ]
        error = await error_of(
            wire.store("one", "fine", openai(f"{names} sessiond-asset:{NOBODY}"))
        )
        assert list(error.fields) == ["messages[1].json"]

    async def test_an_import_of_many(self, wire: Wire, query: Query, asset_id: str) -> None:
        await wire.create("one")
        await wire.store("one", "before")
        await wire.import_(
            "one",
            [[mention(asset_id) if i % 2 else openai("x") for i in range(1000)] for _ in range(12)],
        )
        assert query(
            "SELECT count(*), min(seq), max(seq), count(*) FILTER (WHERE seq % 2 = 1) FROM asset_refs"
        ) == [(6000, 3, 12_001, 6000)]

    async def test_conditions_and_repetitions(
        self, wire: Wire, query: Query, asset_id: str
    ) -> None:
        await wire.create("one")
        first = await wire.store("one", mention(asset_id), request_id="r", expected_last_seq=0)
        assert (
            await wire.store("one", mention(asset_id), request_id="r", expected_last_seq=0) == first
        )
        assert (
            await error_of(wire.store("one", mention(asset_id), expected_last_seq=0))
        ).reason == "SEQUENCE_CONFLICT"
        assert (await error_of(wire.store("none", mention(asset_id)))).reason == "SESSION_NOT_FOUND"
        assert (
            await error_of(wire.store("one", openai("other"), mention(asset_id), request_id="r"))
        ).reason == "REQUEST_ID_REUSED"
        imported = await wire.import_("one", [[mention(asset_id)]], request_id="i")
        assert await wire.import_("one", [[mention(asset_id)]], request_id="i") == imported
        assert rows(query) == (1, 2, 0)

    async def test_references_keep_an_asset_and_the_last_ones_end_removes_it(
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

    async def test_a_message_of_too_many(self, wire: Wire) -> None:
        await wire.create("one")
        names = "".join(f"sessiond-asset:{i:064x} " for i in range(1001))
        error = await error_of(wire.store("one", openai("first"), openai(names)))
        assert (error.reason, list(error.fields)) == ("INVALID_FIELD", ["messages[1].json"])

    async def test_copies_share_them(
        self,
        wire: Wire,
        query: Query,
        store: Store,
        sweeper: Sweeper,
        purger: Purger,
        asset_id: str,
    ) -> None:
        """Also those of copies of copies, whose messages are moved."""
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

    async def test_a_purge_in_batches_takes_its_references_along(
        self, wire: Wire, query: Query, server: Running, asset_id: str
    ) -> None:
        await wire.create("one")
        await wire.store("one", *[mention(asset_id) for _ in range(10)])
        await wire.delete("one")
        purge = PurgeStore(server.database)
        for left in (6, 2, 0):
            await purge.purge_logs(10, 8)  # rows: each message and its reference
            assert query(
                "SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM asset_refs)"
            ) == [(left, left)]

    async def test_an_upload_begins_the_grace_anew(
        self, wire: Wire, query: Query, sweeper: Sweeper, asset_id: str
    ) -> None:
        pass_time(query)
        await upload(wire, b"content")
        assert await sweeper.round() == (0, 0)
        pass_time(query)
        assert await sweeper.round() == (1, 1)

    async def test_a_sweep_goes_on_where_it_was(
        self, wire: Wire, query: Query, server: Running
    ) -> None:
        await wire.create("one")
        for i in range(10):
            asset = await upload(wire, f"{i}".encode())
            if i % 2:
                await wire.store("one", mention(asset.asset_id))
        # All of the same time: the place tells them apart nevertheless.
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
        # Where one had locked them all, the objects come a round later.
        done += [await sweepers[0].round()]
        assert sum(objects for _, objects in done) == 100
        assert store.everything() == []
        assert rows(query) == (0, 0, 0)


class TestRaces:
    """The sweep against those who want to keep what it removes. There is no grace: everything is due at once."""

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

    async def test_an_upload_against_the_sweep(
        self, wire: Wire, query: Query, store: Store, sweeper: Sweeper
    ) -> None:
        """An asset has its content, or is not there."""

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

    async def test_an_append_against_the_sweep(
        self, wire: Wire, query: Query, store: Store, sweeper: Sweeper
    ) -> None:
        """A message that was stored has its asset; where that was gone already, the message is refused."""
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

    async def test_an_append_under_way_keeps_the_sweep_off(
        self, wire: Wire, query: Query, server: Running, sweeper: Sweeper
    ) -> None:
        asset = await upload(wire, b"content")
        await wire.create("one")
        async with server.database.transaction() as connection:
            await connection.execute("SELECT FROM sessions FOR UPDATE")
            storing = asyncio.ensure_future(wire.store("one", mention(asset.asset_id)))
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            await until_async(lambda: query(waiting) == [(1,)], "the append waited for the session")
            assert await sweeper.round() == (0, 0)
        await storing
        assert await sweeper.round() == (0, 0)
        assert rows(query) == (1, 1, 0)


class TestLeftovers:
    """What a server leaves that is killed, or whose store is away."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return Store(tmp_path / "content", None)

    async def test_what_a_killed_upload_leaves_is_removed_when_it_is_due(
        self, query: Query, store: Store, server: Running, sweeper: Sweeper
    ) -> None:
        announced = [f"{DEFAULT_PROJECT_ID.hex}/{number}" for number in range(3)]
        for key in announced:
            await AssetStore(server.database).announce(key)
        assert store.directory
        folder = store.directory / DEFAULT_PROJECT_ID.hex
        folder.mkdir(parents=True)
        # Nothing was written yet; a part of it; all of it, but the asset was not recorded.
        (folder / "1#1").write_bytes(b"a part")
        (folder / "2").write_bytes(b"the whole")
        assert await sweeper.round() == (0, 0)
        pass_time(query, 23.9 * 3600)
        assert await sweeper.round() == (0, 0)
        pass_time(query, 0.2 * 3600)
        assert await sweeper.round() == (0, 3)
        assert store.everything() == []
        assert rows(query) == (0, 0, 0)

    async def test_the_local_store_stages_where_the_sweep_looks(
        self, server: Running, store: Store
    ) -> None:
        """The name of the file in which it collects an object is its own affair: this tells when it changes."""
        staged: list[str] = []

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(60):
                yield bytes(PIECE)
            await until_async(lambda: bool(store.everything()), "a part was written")
            staged.extend(store.everything())

        await server.objects.put("folder/name", pieces())
        assert staged == ["folder/name#1"]
        assert store.everything() == ["folder/name"]

    async def test_an_object_that_was_given_up_does_not_become_an_assets(
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

    async def test_a_store_that_is_away(
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
            raise ObjectStoreUnavailable("away")

        with monkeypatch.context() as patch:
            patch.setattr(Objects, "delete", refuse)
            assert await sweeper.round() == (1, 0)
            # What an upload leaves while the store is away is known as well.
            assert (await error_of(upload(wire, b"x", asset_id=NOBODY))).reason == "ASSET_MISMATCH"
        assert (await error_of(get(wire, asset.asset_id))).reason == "ASSET_NOT_FOUND"
        assert rows(query) == (0, 0, 2)
        assert len(store.everything()) == 1
        pass_time(query)
        assert await sweeper.round() == (0, 2)
        assert store.everything() == []
        assert rows(query) == (0, 0, 0)


async def test_an_s3_that_is_away(
    settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    if store.directory:
        # A file stands where the directory should: it is away as well, in its own manner.
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
        # All else goes on.
        await Wire(channel).create("one")
        assert (await Wire(channel).store("one", "x")).last_seq == 1


class TestProjects:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"require_keys": True, "key_cache_s": 0.0})

    async def test_have_their_own(
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
