"""The memory that requests take: bounded for callers without a key, and released for others."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import grpc
import psutil
import pytest

from sessiond.v1.message_pb2 import FORMAT_OPENAI, Message
from sessiond.v1.session_service_pb2 import GetMessagesRequest, StoreMessagesRequest
from sessiond_server.core import memory
from sessiond_server.core.limits import MAX_JSON_BYTES
from sessiond_server.rpc.admission import LARGE_RPCS
from sessiond_server.server import Running

from ..support.processes import ServerProcess
from ..support.wire import Wire, error_of, taken_apart
from .calls import CALLS, call

Start = Callable[..., ServerProcess]

CALLERS = 6
SIZE = 30 * 1024 * 1024
UNKNOWN = (("authorization", f"Bearer sk-sessiond-{'0' * 16}-{'A' * 43}"),)


@pytest.mark.parametrize("metadata", [(), UNKNOWN])
async def test_requests_of_strangers_are_not_read(
    database_url: str, start_server: Start, metadata: tuple[tuple[str, str], ...]
) -> None:
    server = await asyncio.to_thread(
        start_server, "--require-keys", SESSIOND_DATABASE_URL=database_url
    )
    process = psutil.Process(server.process.pid)
    large = StoreMessagesRequest(
        session_id="one", messages=[Message(format=FORMAT_OPENAI, json="x" * SIZE)]
    )
    async with grpc.aio.insecure_channel(server.target) as channel:
        wire = Wire(channel)
        # The first call of a process allocates memory that is not the request's.
        await error_of(wire.sessions.StoreMessages(StoreMessagesRequest(), metadata=metadata))
        before = process.memory_info().rss
        calls = [wire.sessions.StoreMessages(large, metadata=metadata) for _ in range(CALLERS)]
        ended = await asyncio.gather(*calls, return_exceptions=True)
        grown = process.memory_info().rss - before
    reasons = {taken_apart(e).reason for e in ended if isinstance(e, grpc.aio.AioRpcError)}
    assert reasons == {"API_KEY_INVALID" if metadata else "API_KEY_MISSING"}
    # gRPC reads ahead up to a few MB on each connection.
    assert grown < CALLERS * SIZE / 4


async def test_calls_whose_requests_the_handler_reads_work_as_others(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler itself reads the request of a caller whose key is not in the cache."""
    monkeypatch.setattr(
        "sessiond_server.projects.authentication.Authenticator.knows", lambda *_: False
    )
    await wire.create("one")
    await wire.store("one", "a")
    found = [
        batch async for batch in wire.sessions.GetMessages(GetMessagesRequest(session_id="one"))
    ]
    assert sum(len(batch.messages) for batch in found) == 1


async def test_memory_is_given_back_after_large_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed: list[int] = []
    monkeypatch.setattr(memory, "_malloc_trim", lambda: trimmed.append)
    trimmer = memory.Memory()
    for _ in range(1000):
        trimmer.received(memory.LARGE_BYTES - 1)
    await trimmer.trim()
    assert trimmed == []
    for _ in range(40):
        trimmer.received(memory.LARGE_BYTES)
    for _ in range(4):
        await trimmer.trim()
    # The memory was trimmed once for what is free now, and once more for what becomes free later.
    assert trimmed == [0, 0]


async def test_messages_and_files_are_refused_while_memory_is_short(
    wire: Wire, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    await wire.create("one")
    monkeypatch.setattr(server.admission.memory, "_limit", 100)
    monkeypatch.setattr(memory, "resident", lambda: 101)
    server.admission.memory.look()
    for method in LARGE_RPCS:
        error = await error_of(call(wire, method, CALLS[method]("one")))
        assert (error.reason, error.retry_s) == ("OVERLOADED", 1.0)
        assert "memory" in error.text
    assert (await wire.get("one")).last_seq == 0
    monkeypatch.setattr(memory, "resident", lambda: 100)
    server.admission.memory.look()
    assert (await wire.store("one", "x")).last_seq == 1


def test_a_container_s_limit_is_shared_by_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "CONTAINER_LIMIT", limit)
    assert memory.share_of_container(2) == 0
    limit.write_text("max\n")
    assert memory.share_of_container(2) == 0
    limit.write_text("1000\n")
    assert memory.share_of_container(2) == 425
    assert memory.resident() > 0


async def test_a_huge_struct_is_refused_before_it_is_converted(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("it is converted")

    monkeypatch.setattr("sessiond_server.core.structs._object", never)
    huge = {f"key {number}": 0 for number in range(MAX_JSON_BYTES)}
    error = await error_of(wire.create("one", metadata=huge))
    assert (error.reason, list(error.fields)) == ("INVALID_FIELD", ["session.metadata"])


@pytest.mark.parametrize("value", [["x"] * 10_000, list(range(10)) * 1_000, [None] * 10_000])
async def test_every_struct_within_the_limit_is_accepted(wire: Wire, value: list[object]) -> None:
    """The limit applies to the JSON. The protobuf encoding may be larger."""
    assert (await wire.create(metadata={"a": value})).metadata["a"]
