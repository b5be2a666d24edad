"""Limits of imports: their bytes, memory, disk space, and the silence of clients."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from sessiond.v1 import session_service_pb2 as ss
from sessiond.v1.asset_service_pb2 import UploadAssetRequest
from sessiond.v1.session_pb2 import Session
from sessiond_server.messages.store import spool as spool_module
from sessiond_server.messages.store.rows import Rows
from sessiond_server.messages.store.spool import Spool, Start
from sessiond_server.settings import Settings

from ..support.wire import Wire, WireError, error_of, openai

Query = Callable[..., list[tuple[object, ...]]]


async def import_messages(wire: Wire, *pieces: list[Any]) -> Any:
    return await wire.import_("one", pieces)


async def import_session(wire: Wire, *pieces: list[Any]) -> Any:
    requests = [ss.ImportSessionRequest(messages=piece) for piece in pieces]
    requests[0].session.CopyFrom(Session(session_id="new"))
    return await wire.sessions.ImportSession(iter(requests))


IMPORTS = pytest.mark.parametrize("import_", [import_messages, import_session])


async def nothing_is_stored(wire: Wire) -> None:
    assert [(session.session_id, session.last_seq) for session in await wire.list()] == [("one", 0)]


class TestMaxImportBytes:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"max_import_bytes": 10_000})

    @IMPORTS
    async def test_larger_imports_are_refused_and_store_nothing(
        self, wire: Wire, import_: Any
    ) -> None:
        await wire.create("one")
        error: WireError = await error_of(import_(wire, *[[openai("x" * 1_000)]] * 12))
        assert (error.code, error.reason) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "BATCH_TOO_LARGE",
        )
        assert list(error.fields) == ["messages"]
        assert error.metadata["max_bytes"] == "10000"
        assert int(error.metadata["content_bytes"]) > 10_000
        assert "max_import_bytes" in error.text
        await nothing_is_stored(wire)
        await import_(wire, [openai("x" * 1_000)] * 9)

    @IMPORTS
    async def test_metadata_counts_towards_the_limit(self, wire: Wire, import_: Any) -> None:
        await wire.create("one")
        message = openai("x")
        message.metadata["note"] = "x" * 10_000
        error: WireError = await error_of(import_(wire, [message]))
        assert error.reason == "BATCH_TOO_LARGE"
        await nothing_is_stored(wire)


class TestIdleTimeout:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"import_idle_timeout_s": 0.2})

    @pytest.mark.parametrize(
        ("rpc", "first"),
        [
            ("ImportMessages", ss.ImportMessagesRequest(session_id="one", messages=[openai("a")])),
            ("ImportMessages", None),
            (
                "ImportSession",
                ss.ImportSessionRequest(session=Session(session_id="new"), messages=[openai("a")]),
            ),
            ("ImportSession", None),
            ("UploadAsset", UploadAssetRequest(data=b"a")),
            ("UploadAsset", None),
        ],
    )
    async def test_a_client_that_sends_nothing_is_refused(
        self, wire: Wire, query: Query, rpc: str, first: Any
    ) -> None:
        await wire.create("one")

        async def requests() -> AsyncIterator[Any]:
            if first:
                yield first
            await asyncio.Event().wait()

        error: WireError = await error_of(wire.method(rpc)(requests()))
        assert (error.code, error.reason) == (
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "DEADLINE_EXCEEDED",
        )
        assert "sent nothing for 0.2 s" in error.text
        await nothing_is_stored(wire)
        assert query("SELECT count(*) FROM assets") == [(0,)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
class TestFullDisk:
    @IMPORTS
    async def test_an_import_is_refused_and_the_next_one_works(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch, import_: Any
    ) -> None:
        await wire.create("one")
        monkeypatch.setattr(spool_module, "MEMORY_BYTES", 1_000)
        with monkeypatch.context() as patch:
            full = Path("/dev/full")
            patch.setattr(spool_module, "TemporaryFile", lambda **_: full.open("r+b"))
            error: WireError = await error_of(import_(wire, [openai("a")], [openai("x" * 2_000)]))
        assert (error.code, error.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "OVERLOADED",
        )
        assert "temporary disk (TMPDIR): No space left on device" in error.text
        assert error.retry_s
        await nothing_is_stored(wire)
        assert Spool.total_in_memory == 0
        await import_(wire, [openai("a")], [openai("x" * 2_000)])


class TestSpool:
    @staticmethod
    def rows(size: int) -> Rows:
        return Rows([1], [1], [size], [0], [], [bytes(size)])

    def test_all_spools_together_keep_a_bounded_part_in_memory(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files: list[Any] = []

        def temporary_file(**arguments: Any) -> Any:
            files.append(tempfile.TemporaryFile(**arguments))  # noqa: SIM115
            return files[-1]

        monkeypatch.setattr(spool_module, "TemporaryFile", temporary_file)
        monkeypatch.setattr(spool_module, "TOTAL_MEMORY_BYTES", 10_000)
        spools = [Spool() for _ in range(20)]
        for _ in range(3):
            for spool in spools:
                spool.add(self.rows(900))
                assert Spool.total_in_memory <= 10_000
        assert 0 < len(files) < 20
        start = Start(*[spool_module.UUID(int=0)] * 2, 1, 0, 0, 0)
        [size] = {len(b"".join(spool.copy_data(start))) for spool in spools}
        assert size > 2_700
        for spool in spools:
            spool.__exit__()
        assert Spool.total_in_memory == 0
        assert all(file.closed for file in files)
