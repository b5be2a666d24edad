"""Exports and imports of sessions whose messages refer to assets."""

import asyncio
import base64
import hashlib
import json
import random
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from sessiond import (
    AssetNotFound,
    AssetTooLarge,
    AsyncClient,
    Client,
    InvalidField,
    NewMessage,
    SessionAlreadyExists,
    SessionNotFound,
)
from sessiond.v1.message_pb2 import Blob, Part, ToolResult
from sessiond_server.projects.service import Keys
from sessiond_server.projects.store import KeyStore
from sessiond_server.server import Running
from sessiond_server.settings import Settings

from ..support.waiting import until_async
from .helpers import changed, lines_of, renamed

PIECE = 192 * 1024
CONTENTS = {
    "none": b"",
    "little": b"0123456789",
    "picture": random.Random(1).randbytes(700 * 1024),
    "whole pieces": random.Random(2).randbytes(2 * PIECE),
}
IDS = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}
# The assets in the order of a_session_with_assets, and the number of records of each.
RECORDS = {"little": 1, "picture": 4, "none": 1, "whole pieces": 2}


def pictures(*asset_ids: str) -> dict[str, Any]:
    """Return a message with pictures."""
    return {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": f"sessiond-asset:{asset_id}"}}
            for asset_id in asset_ids
        ],
    }


async def a_session_with_assets(client: AsyncClient, session_id: str) -> None:
    """Create a session with assets in parts, in a tool's result and in a provider's JSON."""
    for name, content in CONTENTS.items():
        await client.assets.upload(
            content, media_type="" if name == "none" else f"x/{name.replace(' ', '-')}"
        )
    session = await client.create_session(session_id)
    await session.bookmarks.create("the start")
    look_alike = f"sessiond-asset:{'0' * 65} sessiond-asset:{'0' * 63} sessiond-asset:{'A' * 64}"
    result = ToolResult(
        call_id="c", parts=[Part(text="t"), Part(file=Blob(asset_id=IDS["none"], name="empty"))]
    )
    await session.store_messages(
        [
            {"role": "user", "content": f"before {look_alike}"},
            pictures(IDS["little"], IDS["little"]),
            NewMessage(
                parts=[
                    Part(text=f"sessiond-asset:{'1' * 64}"),
                    Part(image=Blob(asset_id=IDS["picture"])),
                ],
                role="user",
            ),
            NewMessage(
                parts=[Part(tool_result=result), Part(audio=Blob(asset_id=IDS["picture"]))],
                role="tool",
            ),
            NewMessage(
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "document",
                            "source": {
                                "type": "base64",
                                "data": f"sessiond-asset:{IDS['whole pieces']}",
                            },
                        }
                    ],
                },
                format="anthropic",
            ),
            pictures(IDS["whole pieces"], IDS["little"]),
        ]
    )


def left_files() -> list[str]:
    return [path.name for path in Path(tempfile.gettempdir()).glob("sessiond-*") if path.is_file()]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this test its own directory for temporary files."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


@pytest.mark.usefixtures("temporary")
class TestAssets:
    """Two projects, blue and red."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"require_keys": True})

    @pytest.fixture
    async def secrets(self, server: Running) -> list[str]:
        keys = Keys(KeyStore(server.database))
        return [
            (await keys.create_key(name, create_project=True)).secret for name in ("blue", "red")
        ]

    @pytest.fixture
    async def blue(self, server: Running, secrets: list[str]) -> AsyncIterator[AsyncClient]:
        async with AsyncClient(f"127.0.0.1:{server.port}", api_key=secrets[0]) as opened:
            yield opened

    @pytest.fixture
    async def red(self, server: Running, secrets: list[str]) -> AsyncIterator[AsyncClient]:
        async with AsyncClient(f"127.0.0.1:{server.port}", api_key=secrets[1]) as opened:
            yield opened

    async def test_each_asset_is_exported_once_after_its_first_message(
        self, blue: AsyncClient
    ) -> None:
        await a_session_with_assets(blue, "x")
        records = [json.loads(line) for line in await lines_of(blue, "x")]
        kinds = (
            "export bookmark message asset message asset asset asset asset message asset message "
            "asset "
            "asset message message end"
        )
        assert [record["kind"] for record in records] == kinds.split()
        assert records[-1] == {
            "kind": "end",
            "tasks": 0,
            "bookmarks": 1,
            "messages": 6,
            "assets": 4,
        }
        assets = [record for record in records if record["kind"] == "asset"]
        assert [record["asset_id"] for record in assets] == [
            IDS[name] for name, count in RECORDS.items() for _ in range(count)
        ]
        for name, content in CONTENTS.items():
            own = [record for record in assets if record["asset_id"] == IDS[name]]
            assert [record["offset"] for record in own] == [i * PIECE for i in range(len(own))]
            assert {record["size"] for record in own} == {len(content)}
            assert b"".join(base64.b64decode(record["data"]) for record in own) == content
            assert max(len(record["data"]) for record in own) <= 256 * 1024
        blob = (await blue.sessions.get_message("x", 4)).blob
        assert blob["parts"][0]["parts"][1] == {
            "type": "file",
            "media_type": "",
            "name": "empty",
            "asset_id": IDS["none"],
        }

    async def test_assets_are_imported_into_any_project(
        self, blue: AsyncClient, red: AsyncClient, tmp_path: Path
    ) -> None:
        await a_session_with_assets(blue, "x")
        lines = await lines_of(blue, "x")
        document = await blue.sessions.export("x")
        assert [base64.b64decode(asset["data"]) for asset in document["assets"]] == [
            CONTENTS[name] for name in RECORDS
        ]
        assert [set(asset) for asset in document["assets"]] == [
            {"asset_id", "media_type", "size", "data"}
        ] * 4
        files = {form: tmp_path / f"x.{form}" for form in ("jsonl", "json")}
        for form, path in files.items():
            await blue.sessions.export_to("x", path, format=form)
        assert files["jsonl"].read_text(encoding="utf-8") == "".join(lines)
        assert json.loads(files["json"].read_text(encoding="utf-8")) == document
        sources = {
            "lines": lines,
            "dict": document,
            "jsonl": files["jsonl"],
            "json": files["json"],
            "iterator": iter(lines),
        }
        for name, source in sources.items():
            await red.sessions.import_session(source, name)
            assert await lines_of(red, name) == renamed(lines, name)
        await blue.sessions.import_session(lines, "y")
        assert await lines_of(blue, "y") == renamed(lines, "y")
        for client in (blue, red):
            for name, content in CONTENTS.items():
                assert await client.assets.read(IDS[name]) == content
        # A repeated import may use the other form of the same export.
        first = await red.sessions.import_session(lines, "once", request_id="once")
        assert await red.sessions.import_session(document, "once", request_id="once") == first
        assert left_files() == []

    async def test_the_sync_client_does_the_same(
        self, blue: AsyncClient, server: Running, secrets: list[str], tmp_path: Path
    ) -> None:
        await a_session_with_assets(blue, "x")
        lines = await lines_of(blue, "x")
        document = await blue.sessions.export("x")

        def work() -> None:
            target = f"127.0.0.1:{server.port}"
            with (
                Client(target, api_key=secrets[0]) as blue,
                Client(target, api_key=secrets[1]) as red,
            ):
                assert list(blue.sessions.export_lines("x")) == lines
                assert blue.sessions.export("x") == document
                for form in ("jsonl", "json"):
                    blue.sessions.export_to("x", tmp_path / form, format=form)
                    red.sessions.import_session(tmp_path / form, form)
                    assert list(red.sessions.export_lines(form)) == renamed(lines, form)
                red.sessions.import_session(iter(lines), "iterator")
                assert list(red.sessions.export_lines("iterator")) == renamed(lines, "iterator")
                with pytest.raises(
                    InvalidField,
                    match=f"line 8: offset is {3 * PIECE} instead of {2 * PIECE}: pieces",
                ):
                    red.sessions.import_session(iter([*lines[:7], *lines[8:]]), "gap")
                with pytest.raises(SessionNotFound):
                    red.sessions.get("gap")
                with pytest.raises(SessionAlreadyExists):
                    red.sessions.import_session(lines, "json")
                for name, content in CONTENTS.items():
                    assert red.assets.read(IDS[name]) == content

        await asyncio.to_thread(work)
        # A thread of gRPC may still be sending the refused import.
        await until_async(lambda: not left_files(), "no temporary file is left")

    async def test_an_export_without_assets_needs_them_at_its_import(
        self, blue: AsyncClient, red: AsyncClient, tmp_path: Path
    ) -> None:
        await a_session_with_assets(blue, "x")
        session = await blue.get_session("x")
        lines = await session.export_lines(assets=False)
        assert [json.loads(line)["kind"] for line in lines] == [
            "export",
            "bookmark",
            *["message"] * 6,
            "end",
        ]
        assert json.loads(lines[-1])["assets"] == 0
        document = await session.export(assets=False)
        assert document["assets"] == []
        for form in ("jsonl", "json"):
            await session.export_to(tmp_path / form, format=form, assets=False)
            await blue.sessions.import_session(tmp_path / form, form)
            assert await lines_of(blue, form) == renamed(await lines_of(blue, "x"), form)
        assert json.loads((tmp_path / "json").read_text(encoding="utf-8")) == document
        assert (tmp_path / "jsonl").read_text(encoding="utf-8") == "".join(lines)
        for source in (lines, document):
            with pytest.raises(AssetNotFound, match=IDS["little"]):
                await red.sessions.import_session(source)
            with pytest.raises(SessionNotFound):
                await red.sessions.get("x")

    async def test_malformed_assets_are_refused_with_their_line(
        self, blue: AsyncClient, red: AsyncClient
    ) -> None:
        await a_session_with_assets(blue, "x")
        lines = await lines_of(blue, "x")
        for broken, says in _broken_assets(lines):
            with pytest.raises(InvalidField) as caught:
                await red.sessions.import_session(broken, "y")
            assert says in str(caught.value)
            with pytest.raises(SessionNotFound):
                await red.sessions.get("y")
        document = await blue.sessions.export("x")
        for change, says in (
            ({"data": None}, "assets[1]: data is not a string"),
            ({"data": document["assets"][1]["data"][:-1] + " "}, "assets[1]: data is not base64"),
            ({"data": document["assets"][1]["data"][:-8]}, "assets[2] interrupts asset"),
            ({"size": "9"}, "assets[1]: size is not an integer"),
        ):
            assets = [
                {**asset, **(change if i == 1 else {})}
                for i, asset in enumerate(document["assets"])
            ]
            with pytest.raises(InvalidField) as caught:
                await red.sessions.import_session({**document, "assets": assets}, "y")
            assert says in str(caught.value)
        # The malformed content must not have become an asset.
        for wrong in (hashlib.sha256(bytes(10)).hexdigest(), "0" * 64):
            with pytest.raises(AssetNotFound):
                await red.assets.get(wrong)
        assert left_files() == []

    async def test_errors_of_the_server_are_raised(
        self, blue: AsyncClient, red: AsyncClient
    ) -> None:
        await a_session_with_assets(blue, "x")
        lines = await lines_of(blue, "x")
        with pytest.raises(SessionAlreadyExists):
            await blue.sessions.import_session(lines)
        with pytest.raises(InvalidField, match="line 4: media_type cannot be sent"):
            await red.sessions.import_session(changed(lines, 3, media_type="\ud800"), "y")
        with pytest.raises(InvalidField, match="line 4: size cannot be sent"):
            await red.sessions.import_session(changed(lines, 3, size=2**63), "y")
        with pytest.raises(InvalidField, match="media_type"):
            await red.sessions.import_session(changed(lines, 3, media_type="x" * 300), "y")
        assert left_files() == []


class TestAssetLimit:
    """A server whose limit for assets is 2,048 bytes."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"max_asset_bytes": 2048})

    @pytest.mark.parametrize("size", [2048, 2049])
    async def test_an_asset_above_the_limit_fails_the_import(
        self, client: AsyncClient, size: int
    ) -> None:
        await client.create_session("x")
        document = await client.sessions.export("x")
        content = bytes(size)
        asset_id, data = hashlib.sha256(content).hexdigest(), base64.b64encode(content).decode()
        document["assets"] = [{"asset_id": asset_id, "media_type": "", "size": size, "data": data}]
        if size == 2048:
            await client.sessions.import_session(document, "y")
            assert await client.assets.read(asset_id) == content
            return
        with pytest.raises(AssetTooLarge):
            await client.sessions.import_session(document, "y")
        with pytest.raises(SessionNotFound):
            await client.sessions.get("y")


def _broken_assets(lines: list[str]) -> Iterator[tuple[list[str], str]]:
    """Malformed exports and their errors.

    Of the 17 lines, line 4 is of "little", 6 to 9 are of "picture", 11 is of "none", and 13 and 14
    are of "whole pieces".
    """
    picture = IDS["picture"]
    wrong = base64.b64encode(bytes(10)).decode()
    yield (
        changed(lines, 3, data=wrong),
        f"line 4: data is not the content of asset {IDS['little']}",
    )
    yield (
        changed(lines, 10, asset_id="0" * 64),
        f"line 11: data is not the content of asset {'0' * 64}",
    )
    yield (
        changed(lines, 6, data=json.loads(lines[5])["data"]),
        f"line 9: data is not the content of asset {picture}",
    )
    yield changed(lines, 3, data="*" * 16), "line 4: data is not base64"
    yield changed(lines, 3, data="MDEyMzQ1Njc4OQ="), "line 4: data is not base64"
    yield changed(lines, 3, data="ü"), "line 4: data is not base64"
    yield changed(lines, 3, data=7), "line 4: data is not a string"
    yield changed(lines, 3, data=""), "line 4: data has 0 bytes at offset 0 of asset"
    yield changed(lines, 3, size=9), "line 4: data has 10 bytes at offset 0 of asset"
    yield (
        changed(lines, 3, size=11),
        f"line 5 interrupts asset {IDS['little']}, which continues at offset 10",
    )
    yield changed(lines, 3, size=-1), "line 4: size must be a number of bytes"
    yield changed(lines, 3, size=None), "line 4: size must be a number of bytes"
    yield changed(lines, 3, asset_id=IDS["little"].upper()), "line 4: asset_id must be 64"
    yield changed(lines, 3, offset=None), "line 4: offset is None instead of 0"
    yield (
        changed(lines, 7, offset=2 * PIECE + 1),
        f"line 8: offset is {2 * PIECE + 1} instead of {2 * PIECE}: pieces",
    )
    yield (
        changed(lines, 7, size=700 * 1024 + 1),
        f"line 8 interrupts asset {picture}, which continues at offset {2 * PIECE}",
    )
    yield changed(lines, 7, media_type="x/y"), "line 8 interrupts asset"
    yield (
        [*lines[:6], *lines[7:]],
        f"line 7: offset is {2 * PIECE} instead of {PIECE}: pieces of asset {picture} are missing",
    )
    yield [*lines[:5], *lines[6:]], f"line 6: offset is {PIECE} instead of 0: pieces"
    yield (
        [*lines[:8], *lines[9:]],
        f"line 9 interrupts asset {picture}, which continues at offset {3 * PIECE}",
    )
    yield [*lines[:8], *lines[10:]], f"line 9 interrupts asset {picture}"
    yield (
        [*lines[:7], lines[6], *lines[7:]],
        f"line 8: offset is {PIECE} instead of {2 * PIECE}: pieces",
    )
    yield [*lines[:5], lines[3], *lines[5:]], f"line 6 repeats asset {IDS['little']}"
    yield lines[:7], "it was cut off after line 7"
    yield [*lines[:3], *lines[4:]], "line 16 counts 4 assets, but the export has 3"
    yield (
        changed(lines, 16, assets=None),
        "line 17 counts None assets, but the export has 4",
    )
    yield [lines[0], lines[3], *lines[1:3], *lines[4:]], "line 3 is a bookmark after the assets"
