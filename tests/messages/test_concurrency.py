"""Many writers: no gap, no repeat, no lost update."""

import asyncio
import json

import grpc

from ..conftest import purger_of
from ..support.wire import Wire, error_of, taken_apart


async def test_32_writers_on_one_session(wire: Wire) -> None:
    await wire.create("one")

    async def write(writer: int) -> list[int]:
        seqs = []
        for i in range(20):
            answer = await wire.store("one", *[f"{writer}:{i}"] * (1 + i % 3))
            seqs += range(answer.first_seq, answer.last_seq + 1)
        return seqs

    seqs = await asyncio.gather(*(write(writer) for writer in range(32)))
    total = sum(map(len, seqs))
    assert sorted(seq for one in seqs for seq in one) == list(range(1, total + 1))
    messages = await wire.read("one")
    assert [m.seq for m in messages] == list(range(1, total + 1))
    times = [m.create_time.ToNanoseconds() for m in messages]
    assert times == sorted(times)
    said = [json.loads(m.json)["content"] for m in messages]
    for writer, own in enumerate(seqs):
        assert own == sorted(own)
        numbers = [int(text.split(":")[1]) for text in said if text.startswith(f"{writer}:")]
        assert numbers == sorted(numbers)
        assert len(numbers) == len(own)


async def test_32_writers_on_32_sessions(wire: Wire) -> None:
    async def write(writer: int) -> None:
        await wire.create(f"s{writer}")
        for i in range(20):
            assert (await wire.store(f"s{writer}", f"{i}")).first_seq == i + 1

    await asyncio.gather(*(write(writer) for writer in range(32)))
    for writer in range(32):
        said = [json.loads(m.json)["content"] for m in await wire.read(f"s{writer}")]
        assert said == [str(i) for i in range(20)]


async def test_expected_last_seq_loses_no_update(wire: Wire) -> None:
    """Each writer increments a counter that it has read. No increment may be lost."""
    await wire.create("one")

    async def count(times: int) -> None:
        done = 0
        while done < times:
            seen = (await wire.get("one")).last_seq
            value = (
                int(json.loads((await wire.message("one", seen)).json)["content"]) if seen else 0
            )
            try:
                await wire.store("one", str(value + 1), expected_last_seq=seen)
            except grpc.aio.AioRpcError as e:
                if taken_apart(e).reason != "SEQUENCE_CONFLICT":
                    raise
            else:
                done += 1

    await asyncio.gather(*(count(5) for _ in range(16)))
    messages = await wire.read("one")
    assert [int(json.loads(m.json)["content"]) for m in messages] == list(range(1, 81))


async def test_the_same_expected_last_seq_is_used_once(wire: Wire) -> None:
    await wire.create("one")
    results = await asyncio.gather(
        *(wire.store("one", f"{i}", expected_last_seq=0) for i in range(32)), return_exceptions=True
    )
    assert sum(not isinstance(result, BaseException) for result in results) == 1
    assert (await wire.get("one")).last_seq == 1


async def test_appends_and_deletes_leave_no_orphans(wire: Wire, query, server) -> None:  # type: ignore[no-untyped-def]
    async def churn() -> None:
        for _ in range(15):
            await wire.create("one", get_or_create=True)
            await asyncio.gather(
                *(wire.store("one", "x") for _ in range(4)), return_exceptions=True
            )
            await delete()

    async def delete() -> None:
        while True:
            try:
                return await wire.delete("one", allow_missing=True)
            except grpc.aio.AioRpcError as error:
                # Other tasks have recreated the session too often during this call, so try again.
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise

    await asyncio.gather(*(churn() for _ in range(6)))
    await wire.delete("one", allow_missing=True)
    await purger_of(server).round()
    for table in ("sessions", "messages", "dead_logs"):
        assert query(f"SELECT count(*) FROM {table}") == [(0,)]


async def test_purgers_at_once_share_the_work(wire: Wire, query, server) -> None:  # type: ignore[no-untyped-def]
    for i in range(20):
        await wire.create(f"s{i}", idle_ttl_s=60)
        await wire.store(f"s{i}", *["x"] * 50)
    query(
        "UPDATE sessions SET used_at = now() - interval '1 h', expiry_check_at = now() - "
        "interval '1 h'"
    )
    purgers = [purger_of(server) for _ in range(4)]
    removed = await asyncio.gather(*(purger.round() for purger in purgers))
    assert sum(sessions for sessions, _, _ in removed) == 20
    assert sum(messages for _, messages, _ in removed) == 1000
    assert query("SELECT count(*) FROM messages") == [(0,)]
    assert (await error_of(wire.get("s0"))).reason == "SESSION_NOT_FOUND"
