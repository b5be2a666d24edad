"""Message ids under load: overlapping batches of two writers, while the server is killed."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sessiond import AsyncClient, NewMessage, errors

from ..support.processes import ServerProcess

BATCH = 100
# Every batch repeats the last tenth of the one before.
STEP = 90
AWAY = (errors.Unavailable, errors.DeadlineExceeded, errors.Overloaded)


async def store(client: AsyncClient, start: int, through: int) -> tuple[int, int]:
    """Store a batch until it is acknowledged; return how many were stored, and how many skipped."""
    batch = [
        NewMessage({"role": "user", "content": f"text {i}"}, message_id=f"id-{i}")
        for i in range(start, through)
    ]
    while True:
        try:
            stored = await client.sessions.store_messages("one", batch, on_duplicate="skip")
        except AWAY:
            continue
        return len(stored), stored.skipped


async def overlapping_writers(
    start_server: Callable[..., ServerProcess], data_dir: Path, count: int, kills: int
) -> None:
    server = await asyncio.to_thread(start_server, SESSIOND_DATA_DIR=str(data_dir))
    target = server.target
    starts = range(0, count, STEP)
    done: list[tuple[int, int]] = []
    due = [len(starts) * 2 * (i + 1) // (kills + 1) for i in range(kills)]

    async def write(client: AsyncClient, order: int) -> None:
        nonlocal server
        for start in starts[::order]:
            done.append(await store(client, start, min(start + BATCH, count)))
            if due and len(done) >= due[0]:
                due.pop(0)
                # The other writer has a batch in flight, which the kill interrupts.
                server.kill()
                server = await asyncio.to_thread(
                    start_server, "--listen", target, SESSIOND_DATA_DIR=str(data_dir)
                )

    async with AsyncClient(target) as first, AsyncClient(target) as second:
        await first.create_session("one")
        await asyncio.gather(write(first, 1), write(second, -1))
        messages = [message async for message in first.sessions.get_messages("one")]
        assert [message.seq for message in messages] == list(range(1, count + 1))
        assert {message.message_id for message in messages} == {f"id-{i}" for i in range(count)}
        for message in messages[:: count // 50]:
            found = await first.sessions.get_message("one", message_id=message.message_id)
            assert found == message
            assert message.content == f"text {str(message.message_id)[3:]}"
        sent = 2 * sum(min(BATCH, count - start) for start in starts)
        stored = sum(stored for stored, _ in done)
        assert stored + sum(skipped for _, skipped in done) == sent
        # A killed server may have stored a batch without acknowledging it. Its repetition then
        # skips the messages.
        assert stored == count if not kills else stored <= count
    assert await asyncio.to_thread(server.terminate) == 0


async def test_two_writers_and_a_crash(
    start_server: Callable[..., ServerProcess], data_dir: Path
) -> None:
    await overlapping_writers(start_server, data_dir, 3_000, kills=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_100_000_messages_of_two_writers(
    start_server: Callable[..., ServerProcess], data_dir: Path
) -> None:
    count = int(os.environ.get("SESSIOND_TEST_NAMED_MESSAGES", "100000"))
    await overlapping_writers(start_server, data_dir, count, kills=0)
    print(f"{count} messages, each once")
