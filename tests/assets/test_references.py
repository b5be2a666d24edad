"""References to assets: the places of a message where they may be, and their checks."""

import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    ROLE_USER,
    Blob,
    Message,
    Part,
    Parts,
    ToolResult,
)
from sessiond_server.core.ids import DEFAULT_PROJECT_ID

from ..support.wire import Wire, error_of, openai, pictures
from .helpers import NOBODY, Query, Store, mention, rows, upload


class TestReferences:
    """References behave alike with every kind of object store, so these tests use one kind."""

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
    async def test_a_reference_in_any_place_is_checked_and_recorded(
        self, wire: Wire, query: Query, asset_id: str, kind: str, imported: bool
    ) -> None:
        def message(named: str) -> Message:
            if kind == "json":
                return Message(
                    format=FORMAT_ANTHROPIC,
                    json=json.dumps(
                        {
                            "role": "user",
                            "content": [
                                {
                                    "type": "image",
                                    "source": {"type": "url", "url": f"sessiond-asset:{named}"},
                                }
                            ],
                        }
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
            "json": "messages[2].json.content[0].source.url",
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
            "SELECT count(*) FROM messages m JOIN asset_refs r USING (key, log, seq) WHERE "
            "r.project_id = %s",
            [DEFAULT_PROJECT_ID],
        ) == [(1,)]
        if kind not in ("json", "result"):
            assert getattr((await wire.message("one", 3)).parts.parts[1], kind).asset_id == asset_id

    @pytest.mark.parametrize("malformed", ["", "abc", "F" * 64, "0" * 65])
    async def test_a_malformed_id_in_a_part_is_refused(self, wire: Wire, malformed: str) -> None:
        await wire.create("one")
        error = await error_of(wire.store("one", self.with_part(self.blob("file", malformed))))
        assert error.reason == "INVALID_FIELD"
        assert list(error.fields) == ["messages[0].parts.parts[1].file.asset_id"]

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "abc",
            NOBODY,
            f"{NOBODY}, please",
            NOBODY[:-1],
            NOBODY + "0",
            NOBODY.upper()[:63] + "F",
            " " + NOBODY,
        ],
    )
    async def test_text_that_quotes_or_resembles_a_reference_is_stored(
        self, wire: Wire, query: Query, text: str
    ) -> None:
        await wire.create("one")
        await wire.store("one", openai(f"sessiond-asset:{text}"))
        await wire.import_("one", [[openai(f"sessiond-asset:{text}", "assistant")]])
        assert rows(query) == (0, 0, 0)

    async def test_a_message_refers_to_an_asset_once(self, wire: Wire, query: Query) -> None:
        ids = [(await upload(wire, f"{i}".encode())).asset_id for i in range(20)]
        await wire.create("one")
        await wire.store(
            "one",
            pictures(*ids, *ids),
            "nothing",
            mention(ids[3]),
            pictures(*ids, role="assistant"),
        )
        assert query("SELECT seq, count(*) FROM asset_refs GROUP BY seq ORDER BY seq") == [
            (1, 20),
            (3, 1),
            (4, 20),
        ]
        error = await error_of(wire.store("one", "fine", pictures(*ids, NOBODY)))
        assert list(error.fields) == ["messages[1].json.content[20].image_url.url"]

    async def test_an_import_records_thousands_of_references(
        self, wire: Wire, query: Query, asset_id: str
    ) -> None:
        await wire.create("one")
        await wire.store("one", "before")
        await wire.import_(
            "one",
            [[mention(asset_id) if i % 2 else openai("x") for i in range(1000)] for _ in range(12)],
        )
        assert query(
            "SELECT count(*), min(seq), max(seq), count(*) FILTER (WHERE seq % 2 = 1) FROM "
            "asset_refs"
        ) == [(6000, 3, 12_001, 6000)]

    async def test_refused_and_repeated_appends_record_no_reference(
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

    async def test_a_message_with_too_many_references_is_refused(self, wire: Wire) -> None:
        await wire.create("one")
        named = [f"{i:064x}" for i in range(1001)]
        error = await error_of(wire.store("one", openai("first"), pictures(*named)))
        assert error.reason == "INVALID_FIELD"
        assert list(error.fields) == ["messages[1].json.content[1000].image_url.url"]
