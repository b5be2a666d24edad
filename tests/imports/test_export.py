"""Exported sessions, and their import through the client."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sessiond import (
    AsyncClient,
    Client,
    InvalidField,
    InvalidJson,
    SessionAlreadyExists,
    SessiondError,
    SessionNotFound,
)
from sessiond_server.server import Running

from .helpers import ODD_JSON, a_session, changed, lines_of, names_in, renamed, typed_parts


def is_device(path: Path) -> bool:
    return path.is_char_device()


async def test_an_imported_session_exports_the_same(client: AsyncClient, tmp_path: Path) -> None:
    await a_session(client, "x")
    lines = await lines_of(client, "x")
    assert [json.loads(line)["kind"] for line in lines] == [
        "export",
        *["task"] * 3,
        *["bookmark"] * 2,
        *["message"] * 6,
        "end",
    ]
    assert lines == await lines_of(client, "x")
    document = await client.sessions.export("x")
    files = {form: tmp_path / f"x.{form}" for form in ("jsonl", "json")}
    for form, path in files.items():
        assert (await client.sessions.export_to("x", path, format=form)).session_id == "x"
    assert files["jsonl"].read_text(encoding="utf-8") == "".join(lines)
    assert (
        json.loads(files["json"].read_text(encoding="utf-8"))
        == document
        == json.loads(json.dumps(document))
    )
    indented = tmp_path / "indented"
    indented.write_text(json.dumps(document, indent=2), encoding="utf-8")

    async def slowly() -> AsyncIterator[str]:
        for line in lines:
            yield line

    for name, source in {
        "of a dict": document,
        "of a jsonl file": files["jsonl"],
        "of a json file": str(files["json"]),
        "of another json file": indented,
        "of lines": lines,
        "of an async iterable": slowly(),
        "of an open file": files["jsonl"].open(encoding="utf-8"),
    }.items():
        info = await client.sessions.import_session(source, name)
        assert info.session_id == name
        assert await lines_of(client, name) == renamed(lines, name)
        assert {**await client.sessions.export(name), "session": None} == {
            **document,
            "session": None,
        }
        if hasattr(source, "close"):
            source.close()
    original, imported = await client.sessions.get("x"), await client.sessions.get("of lines")
    for field in (
        "summary",
        "message_count",
        "content_bytes",
        "token_count",
        "created_at",
        "active_at",
    ):
        assert getattr(original, field) == getattr(imported, field)

    await client.delete_session("x")
    assert (await client.sessions.import_session(files["jsonl"])).session_id == "x"
    assert await lines_of(client, "x") == lines
    message = await client.sessions.get_message("x", 2)
    assert message.json == ODD_JSON
    assert list((await client.sessions.get_message("x", 3)).proto.parts.parts) == typed_parts()


async def test_destroyed_copied_and_empty_sessions_are_imported(
    client: AsyncClient, tmp_path: Path
) -> None:
    await client.create_session("empty", never_expires=True)
    await a_session(client, "source")
    await client.sessions.copy("source", "copy", up_to_seq=4)
    await client.sessions.store_message("copy", {"role": "user", "content": "on its own"})
    await client.sessions.destroy("source")
    for session_id in ("empty", "copy", "source"):
        lines = await lines_of(client, session_id)
        info = await client.sessions.import_session(lines, f"{session_id} again")
        assert info.state == ("destroyed" if session_id == "source" else "active")
        assert info.origin is None
        assert await lines_of(client, f"{session_id} again") == renamed(
            lines, f"{session_id} again"
        )
        await client.sessions.export_to(session_id, tmp_path / session_id, format="json")
        assert json.loads(
            (tmp_path / session_id).read_text(encoding="utf-8")
        ) == await client.sessions.export(session_id)
    assert (await client.sessions.get("empty again")).never_expires


async def test_an_export_leaves_out_later_changes(client: AsyncClient) -> None:
    session = await client.create_session("x")
    await session.store_message({"role": "user", "content": "1"})
    lines: list[str] = []
    async for line in session.export_lines():
        if not lines:
            await session.store_message({"role": "user", "content": "2"})
            await session.bookmarks.create("late")
            await session.tasks.create(task_id="t", message_seqs=[1, 2])
        lines.append(line)
    assert [json.loads(line)["kind"] for line in lines] == ["export", "task", "message", "end"]
    assert json.loads(lines[1])["message_seqs"] == [1]
    await client.sessions.import_session(lines, "y")
    assert await lines_of(client, "y") == renamed(lines, "y")


async def test_long_sessions_go_in_pieces(client: AsyncClient, tmp_path: Path) -> None:
    session = await client.create_session("long")
    await session.import_messages(
        [{"role": "user", "content": f"{i} " + "x" * 1000} for i in range(3000)]
    )
    written: list[tuple[int, int | None]] = []
    sent: list[tuple[int, int | None]] = []
    path = tmp_path / "long.jsonl"
    await session.export_to(path, progress=lambda *done: written.append(done))
    assert names_in(tmp_path) == ["long.jsonl"]
    await client.sessions.import_session(path, "again", progress=lambda *done: sent.append(done))
    for told in (written, sent):
        assert len(told) > 5
        assert told == sorted(told)
        assert told[-1] == (3000, 3000)
    assert await lines_of(client, "again") == renamed(await lines_of(client, "long"), "again")


async def test_the_sync_client_does_the_same(
    client: AsyncClient, server: Running, tmp_path: Path
) -> None:
    await a_session(client, "x")
    lines = await lines_of(client, "x")

    def work() -> None:
        with Client(f"127.0.0.1:{server.port}") as sync:
            assert list(sync.sessions.export_lines("x")) == lines
            sync.sessions.export_to("x", tmp_path / "x.jsonl")
            with (tmp_path / "x.jsonl").open(encoding="utf-8") as file:
                sync.sessions.import_session(file, "a")
            sync.sessions.import_session(tmp_path / "x.jsonl", "b")
            sync.sessions.import_session(iter(lines), "c")
            with pytest.raises(InvalidField, match="line 3"):
                sync.sessions.import_session(iter([*lines[:2], "{"]), "d")
            with pytest.raises(SessionNotFound):
                sync.sessions.get("d")

    await asyncio.to_thread(work)
    for session_id in "abc":
        assert await lines_of(client, session_id) == renamed(lines, session_id)


def _broken(lines: list[str]) -> Iterator[tuple[list[str], str]]:
    """Malformed exports and their errors.

    The 13 lines are: export, 3 tasks, 2 bookmarks, 6 messages, end.
    """
    yield [], "is empty"
    yield ["\n", "\n"], "is not JSON"
    yield lines[:-1], "it was cut off after line 12"
    yield lines[:1], "it was cut off after line 1"
    yield [*lines[:4], lines[4][:20]], "line 5 is not JSON"
    yield [lines[0][:20]], "line 1 is not JSON"
    yield ["this is no export\n"], "source is not JSON"
    yield ["[1]"], "source is not an exported session"
    yield [*lines[:7], *lines[8:]], "line 8 has seq 3 instead of 2: messages are missing"
    yield [*lines[:1], *lines[2:]], "line 12 counts 3 tasks, but the export has 2"
    yield [*lines[:11], lines[12]], "line 12 counts 6 messages, but the export has 5"
    yield lines[1:], "line 1 is not the beginning of an export"
    yield [*lines[:3], lines[0]], "line 4 is a second export"
    yield [*lines, lines[12]], "line 14 comes after the end"
    yield [*lines[:7], lines[1]], "line 8 is a task after the messages"
    yield changed(lines, 0, version=2), "line 1 has format version 2;"
    yield changed(lines, 0, session=3), "line 1 has no session"
    yield changed(lines, 0, session={"state": "tired"}), "line 1: state is 'tired'"
    yield changed(lines, 1, kind="poem"), "line 2 has the unknown kind 'poem'"
    yield changed(lines, 1, created_at="yesterday"), "line 2: created_at is 'yesterday'"
    yield (
        changed(lines, 1, created_at="2026-01-01T00:00:00"),
        "line 2: created_at has no time zone",
    )
    yield changed(lines, 1, message_seqs="12"), "line 2: message_seqs is not a list of seqs"
    yield changed(lines, 1, task_id=7), "line 2: task_id is not a string"
    yield changed(lines, 4, seq="0"), "line 5: seq is not an integer"
    yield changed(lines, 6, json=None), "line 7 has neither json nor parts"
    yield changed(lines, 6, json="\ud800"), "line 7: json cannot be sent"
    yield changed(lines, 6, metadata={"n": 2**60}), "line 7: metadata.n is an integer beyond"
    yield changed(lines, 8, parts=[{"poem": "x"}]), "line 9: parts are invalid"
    yield ['{"a": 1}'], "source is not an exported session"
    yield ['{"version":1,"session":{},"messages":{}}'], "messages is not a list"
    yield (
        ['{"version":1,"session":{},\n', '"messages":[{"json":"{}","format":"morse"}]}'],
        "messages[0]: format is 'morse'",
    )


async def test_a_malformed_export_is_refused_with_its_line(
    client: AsyncClient, tmp_path: Path
) -> None:
    await a_session(client, "x")
    lines = await lines_of(client, "x")
    for broken, says in _broken(lines):
        with pytest.raises(InvalidField) as caught:
            await client.sessions.import_session(broken, "y")
        assert says in str(caught.value)
        with pytest.raises(SessionNotFound):
            await client.sessions.get("y")
    path = tmp_path / "latin"
    path.write_bytes("".join(lines).encode()[:-20] + b"\xff\n")
    with pytest.raises(InvalidField, match="line 13 is not UTF-8"):
        await client.sessions.import_session(path, "y")
    with pytest.raises(FileNotFoundError):
        await client.sessions.import_session(tmp_path / "nowhere", "y")
    with pytest.raises(InvalidField, match="session_id"):
        await client.sessions.import_session(lines, "")


async def test_errors_of_the_server_are_raised(client: AsyncClient) -> None:
    await a_session(client, "x")
    lines = await lines_of(client, "x")
    with pytest.raises(SessionAlreadyExists):
        await client.sessions.import_session(lines)
    with pytest.raises(InvalidJson):
        await client.sessions.import_session(changed(lines, 6, json="{"), "y")
    with pytest.raises(SessiondError, match="parent_seq"):
        await client.sessions.import_session(changed(lines, 6, parent_seq=6), "y")
    first = await client.sessions.import_session(lines, "z", request_id="once")
    assert await client.sessions.import_session(lines, "z", request_id="once") == first


async def test_a_failed_export_leaves_the_file_as_it_was(
    client: AsyncClient, tmp_path: Path
) -> None:
    await a_session(client, "x")
    path, link = tmp_path / "x.jsonl", tmp_path / "link"
    path.write_text("before")
    link.symlink_to(path)

    def fail(*done: object) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        await client.sessions.export_to("x", path, progress=fail)
    with pytest.raises(SessionNotFound):
        await client.sessions.export_to("nobody", path)
    assert path.read_text() == "before"
    assert names_in(tmp_path) == ["link", "x.jsonl"]
    await client.sessions.export_to("x", link)
    assert link.is_symlink()
    assert path.read_text(encoding="utf-8") == "".join(await lines_of(client, "x"))
    with pytest.raises(InvalidField, match="format"):
        await client.sessions.export_to("x", path, format="xml")
    with pytest.raises(FileNotFoundError):
        await client.sessions.export_to("x", tmp_path / "none" / "x")
    null = Path("/dev/null")
    await client.sessions.export_to("x", null)
    assert is_device(null)


PIECE = 192 * 1024
CONTENTS = {
    "none": b"",
    "little": b"0123456789",
    "picture": random.Random(1).randbytes(700 * 1024),
    "whole pieces": random.Random(2).randbytes(2 * PIECE),
}
IDS = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}
# The order in which the messages of a_session_with_assets name them, and how many records each has.
RECORDS = {"little": 1, "picture": 4, "none": 1, "whole pieces": 2}


async def a_session_with_assets(client: AsyncClient, session_id: str) -> None:
    """Assets in parts, in the answer of a tool, in a provider's JSON; and what only looks like one."""
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
            {
                "role": "user",
                "content": f"look at sessiond-asset:{IDS['little']}, sessiond-asset:{IDS['little']}",
            },
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
                json.dumps(
                    {"role": "user", "content": [{"u": f"sessiond-asset:{IDS['whole pieces']}"}]}
                ),
                format="anthropic",
            ),
            {
                "role": "user",
                "content": f"again sessiond-asset:{IDS['whole pieces']} sessiond-asset:{IDS['little']}",
            },
        ]
    )


def left_files() -> list[str]:
    return [path.name for path in Path(tempfile.gettempdir()).glob("sessiond-*") if path.is_file()]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory for the temporary files of this test alone."""
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

    async def test_lines(self, blue: AsyncClient) -> None:
        await a_session_with_assets(blue, "x")
        records = [json.loads(line) for line in await lines_of(blue, "x")]
        kinds = "export bookmark message asset message asset asset asset asset message asset message asset asset message message end"
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

    async def test_into_another_project_and_into_the_same(
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
        # The form makes no difference to a repetition.
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

        await asyncio.wait_for(asyncio.to_thread(work), 60)
        # gRPC's thread may still be at the import that was refused at its beginning.
        await until_async(lambda: not left_files(), "no temporary file is left")

    async def test_without_their_contents(
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

    async def test_what_is_broken_is_refused_with_its_place(
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
        # What was wrong never became an asset.
        for wrong in (hashlib.sha256(bytes(10)).hexdigest(), "0" * 64):
            with pytest.raises(AssetNotFound):
                await red.assets.get(wrong)
        assert left_files() == []

    async def test_what_the_server_refuses_is_told(
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


class TestSmallAssets:
    """A server that takes assets of 2,048 bytes."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"max_asset_bytes": 2048})

    @pytest.mark.parametrize("size", [2048, 2049])
    async def test_one_that_is_too_large_fails_the_import(
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
    """Lines that are no export. 17 lines: 4 is "little", 6 to 9 are "picture", 11 is "none", 13 and 14 are "whole pieces"."""
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
