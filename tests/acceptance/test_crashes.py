"""kill -9 of the server and of its PostgreSQL under load.

Every acknowledged append is stored once. Any other append is stored completely or not at all.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from sessiond import AsyncClient, Client, StoredRange, errors

from ..support.embedded import has_another_postgres, is_alive, kill_postgres, postmaster
from ..support.processes import ServerProcess
from ..support.waiting import PATIENCE_S, until, until_async

Start = Callable[..., ServerProcess]

SESSIONS = ("crowded", "busy", "calm")
WRITERS = 8
MAX_BATCH = 40

# Errors of an append while a server or its database is away; any other error fails the test.
# Overloaded: the database was back, but the pool had not reconnected in time.
AWAY = (errors.Unavailable, errors.DeadlineExceeded, errors.Overloaded)


@dataclass
class Append:
    """One append, and its result if it was acknowledged."""

    writer: int
    session_id: str
    request_id: str
    contents: list[str]
    stored: StoredRange | None = None

    async def send(self, client: AsyncClient) -> StoredRange:
        messages = [{"role": "user", "content": content} for content in self.contents]
        return await client.sessions.store_messages(
            self.session_id, messages, request_id=self.request_id
        )


@dataclass
class Load:
    """Writers and their appends.

    Half of the writers append single messages, the others also batches. When an append fails, half
    of the writers repeat it under the same request_id until it is acknowledged; the others drop it.
    """

    client: AsyncClient
    seed: int
    appends: list[Append] = field(default_factory=list)
    acknowledged: int = 0
    failures: int = 0
    left_whole: int = 0
    left_absent: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _stopped: bool = False

    async def write(self, writer: int) -> None:
        rng = random.Random(self.seed * 1000 + writer)
        number = 0
        while not self._stopped:
            number += 1
            size = rng.randint(1, MAX_BATCH) if writer % 2 else 1
            name = f"{writer}-{number}"
            contents = [
                f"{name}:{place}/{size} {'x' * rng.randint(0, 400)}" for place in range(size)
            ]
            append = Append(writer, rng.choice(SESSIONS), f"append-{name}", contents)
            self.appends.append(append)
            await self._send(append, is_stubborn=writer % 4 < 2)

    async def _send(self, append: Append, *, is_stubborn: bool) -> None:
        while True:
            try:
                append.stored = await append.send(self.client)
            except AWAY:
                self.failures += 1
                if not is_stubborn:
                    return
                continue
            async with self._changed:
                self.acknowledged += 1
                self._changed.notify_all()
            return

    async def more(self, count: int) -> None:
        """Return when `count` more appends are acknowledged."""
        goal = self.acknowledged + count
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: self.acknowledged >= goal)

    def stop(self) -> None:
        self._stopped = True


def kill_server(server: ServerProcess, data_dir: Path) -> None:
    server.kill()


def kill_database(server: ServerProcess, data_dir: Path) -> None:
    kill_postgres(data_dir)


def kill_both(server: ServerProcess, data_dir: Path) -> None:
    """Kill both, as a power cut does, except that the kernel keeps unwritten pages."""
    kill_postgres(data_dir)
    server.kill()


async def crash(start_server: Start, data_dir: Path, rounds: int, seed: int) -> Load:
    """Kill servers under load and check what is stored; return the load."""
    kinds = (kill_server, kill_database, kill_both)
    rng = random.Random(seed)
    server = await asyncio.to_thread(start_server, SESSIOND_DATA_DIR=str(data_dir))
    target = server.target
    async with AsyncClient(target) as client:
        for session_id in SESSIONS:
            await client.create_session(session_id)
        load = Load(client, seed)
        writers = [asyncio.create_task(load.write(writer)) for writer in range(WRITERS)]
        try:
            for number in range(rounds):
                # Wait for a number of appends, not for a time, so that the kill hits appends in any
                # state.
                await load.more(rng.randint(1, 250))
                kill = kinds[number % len(kinds)]
                await asyncio.to_thread(kill, server, data_dir)
                if kill is not kill_database:
                    server = await asyncio.to_thread(
                        start_server, "--listen", target, SESSIOND_DATA_DIR=str(data_dir)
                    )
            await load.more(50)
        finally:
            load.stop()
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(*writers)
        await check(client, load, rng)
    assert await asyncio.to_thread(server.terminate) == 0
    return load


async def check(client: AsyncClient, load: Load, rng: random.Random) -> None:
    before = {session_id: await contents_of(client, session_id) for session_id in SESSIONS}
    for append in load.appends:
        check_append(append, before[append.session_id])
    check_order(load)

    # Repeat every dropped append and some acknowledged ones under the same request_id.
    left = [append for append in load.appends if not append.stored]
    known = [append for append in load.appends if append.stored]
    for append in left + rng.sample(known, min(200, len(known))):
        there = before[append.session_id]
        again = await append.send(client)
        is_there = append.contents[0] in there
        if not append.stored:
            load.left_whole += is_there
            load.left_absent += not is_there
        if is_there:
            assert there[again.first_seq - 1 : again.last_seq] == append.contents
        else:
            assert again.first_seq > len(there)
        if append.stored:
            assert again == append.stored
        append.stored = again
    for session_id in SESSIONS:
        after = await contents_of(client, session_id)
        assert after[: len(before[session_id])] == before[session_id]
        ours = [append for append in load.appends if append.session_id == session_id]
        for append in ours:
            check_append(append, after)
        assert len(after) == sum(len(append.contents) for append in ours)


async def contents_of(client: AsyncClient, session_id: str) -> list[str]:
    """Return the contents of a session's messages, from seq 1."""
    info = await client.sessions.get(session_id)
    messages = await client.sessions.get_messages(session_id)
    assert [message.seq for message in messages] == list(range(1, len(messages) + 1))
    assert info.last_seq == info.message_count == len(messages)
    assert info.content_bytes == sum(len(message.json.encode()) for message in messages)
    contents = [message.content for message in messages]
    twice = [content for content, count in Counter(contents).items() if count > 1]
    assert not twice
    return contents


def check_append(append: Append, there: list[str]) -> None:
    if append.stored:
        assert len(append.stored) == len(append.contents)
        assert there[append.stored.first_seq - 1 : append.stored.last_seq] == append.contents
    elif append.contents[0] in there:
        first = there.index(append.contents[0])
        assert there[first : first + len(append.contents)] == append.contents
    else:
        assert not set(append.contents) & set(there)


def check_order(load: Load) -> None:
    """Check that each writer's appends are in order. A writer waits for one before the next."""
    last: dict[tuple[int, str], int] = {}
    for append in load.appends:
        if append.stored:
            assert append.stored.first_seq > last.get((append.writer, append.session_id), 0)
            last[append.writer, append.session_id] = append.stored.last_seq


async def test_two_crashes_under_load_lose_no_acknowledged_append(
    data_dir: Path, start_server: Start
) -> None:
    await crash(start_server, data_dir, rounds=2, seed=2)


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_twenty_crashes_under_load_lose_no_acknowledged_append(
    data_dir: Path, start_server: Start
) -> None:
    load = await crash(start_server, data_dir, rounds=20, seed=20)
    assert load.failures  # writers were at work during the crashes
    print(
        f"{load.acknowledged} appends acknowledged, {load.failures} failed;"
        f" of the dropped ones {load.left_whole} are whole and {load.left_absent} absent"
    )


async def test_an_import_under_way_is_whole_or_absent(data_dir: Path, start_server: Start) -> None:
    """An import with the same request_id then stores its messages exactly once."""
    server = await asyncio.to_thread(start_server, SESSIOND_DATA_DIR=str(data_dir))
    texts = [f'{{"role":"user","content":"{number} {"x" * 300}"}}' for number in range(20_000)]
    kills: list[asyncio.Task[None]] = []

    async def source() -> AsyncIterator[str]:
        for number, text in enumerate(texts):
            if number == len(texts) // 2:
                # The client closes the source as soon as it notices the server's death.
                kills.append(asyncio.create_task(asyncio.to_thread(kill_both, server, data_dir)))
                await asyncio.shield(kills[0])
            yield text

    async with AsyncClient(server.target) as client:
        await client.create_session("one")
        with pytest.raises(AWAY):
            await client.sessions.import_messages("one", source(), request_id="import")
        await kills[0]
        restarted = await asyncio.to_thread(
            start_server, "--listen", server.target, SESSIOND_DATA_DIR=str(data_dir)
        )
        assert await client.sessions.get_messages("one") == []
        for _ in range(2):
            assert len(
                await client.sessions.import_messages("one", texts, request_id="import")
            ) == len(texts)
        assert [message.json for message in await client.sessions.get_messages("one")] == texts
    assert await asyncio.to_thread(restarted.terminate) == 0


class Interrupted(list[str]):
    """A list that calls `interrupt` in the middle of each of its first iterations."""

    def __init__(self, texts: list[str], interrupt: Callable[[], None], times: int) -> None:
        super().__init__(texts)
        self._interrupt = interrupt
        self.left = times

    def __iter__(self) -> Iterator[str]:
        half = len(self) // 2
        for number, text in enumerate(super().__iter__()):
            if number == half and self.left:
                self.left -= 1
                self._interrupt()
            yield text


async def test_an_import_of_a_list_survives_restarts_of_the_server(
    data_dir: Path, start_server: Start
) -> None:
    servers = [await asyncio.to_thread(start_server, SESSIOND_DATA_DIR=str(data_dir))]
    target = servers[0].target

    def interrupt() -> None:
        # This blocks the event loop, so the client reconnects only when the new server listens.
        servers[-1].kill()
        servers.append(start_server("--listen", target, SESSIOND_DATA_DIR=str(data_dir)))

    texts = [f'{{"role":"user","content":"{number} {"x" * 300}"}}' for number in range(10_000)]
    async with AsyncClient(target) as client:
        await client.create_session("one")
        source = Interrupted(texts, interrupt, times=3)
        stored = await client.sessions.import_messages("one", source)
        assert not source.left
        assert (stored.first_seq, stored.last_seq) == (1, len(texts))
        assert [message.json for message in await client.sessions.get_messages("one")] == texts
    assert await asyncio.to_thread(servers[-1].terminate) == 0


def test_a_second_server_on_the_same_directory_is_refused(
    data_dir: Path, start_server: Start
) -> None:
    server = start_server(SESSIOND_DATA_DIR=str(data_dir))
    second = subprocess.run(
        [sys.executable, "-m", "sessiond_server", "serve", "--listen", "127.0.0.1:0"],
        env={k: v for k, v in os.environ.items() if not k.startswith("SESSIOND_")}
        | {"SESSIOND_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert second.returncode == 1
    assert not second.stdout
    assert (
        f"another sessiond (process {server.process.pid}) uses the data directory {data_dir}"
        in second.stderr
    )
    assert "--data-dir" in second.stderr
    assert "Traceback" not in second.stderr
    with Client(server.target) as client:
        assert client.create_session("the first one still serves").info.status == "active"
    assert server.terminate() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_stopped_while_it_starts_leaves_no_postgres(
    data_dir: Path, tmp_path: Path, number: signal.Signals
) -> None:
    server = ServerProcess((), {"SESSIOND_DATA_DIR": str(data_dir)}, tmp_path / "server.log")
    try:
        until((data_dir / "postgres" / "postmaster.pid").exists, "PostgreSQL started")
        server.process.send_signal(number)
        assert server.process.wait(PATIENCE_S) == (130 if number == signal.SIGINT else 0)
        with pytest.raises(FileNotFoundError):
            postmaster(data_dir)
        assert "Traceback" not in server.log.read_text()
    finally:
        server.end()


def test_an_orphaned_postgres_is_adopted(data_dir: Path, start_server: Start) -> None:
    first = start_server(SESSIOND_DATA_DIR=str(data_dir))
    with Client(first.target) as client:
        client.create_session("one").store_message({"role": "user", "content": "still there"})
    first.kill()
    orphan = postmaster(data_dir)
    assert is_alive(orphan)

    second = start_server(SESSIOND_DATA_DIR=str(data_dir))
    assert postmaster(data_dir) == orphan
    with Client(second.target) as client:
        assert [message.content for message in client.sessions.get_messages("one")] == [
            "still there"
        ]
    assert second.terminate() == 0
    assert not is_alive(orphan)


async def test_a_killed_postgres_comes_back_by_itself(data_dir: Path, start_server: Start) -> None:
    server = await asyncio.to_thread(start_server, SESSIOND_DATA_DIR=str(data_dir))
    async with AsyncClient(server.target) as client:
        session = await client.create_session("one")
        for number in range(1, 4):
            stored = await session.store_message({"role": "user", "content": str(number)})
            assert stored.last_seq == number
            if number < 3:
                killed = kill_postgres(data_dir)
                await until_async(
                    partial(has_another_postgres, data_dir, killed), "another PostgreSQL ran"
                )
                await answers(client)
        assert [message.content for message in await session.get_messages()] == ["1", "2", "3"]
    assert server.process.poll() is None
    assert await asyncio.to_thread(server.terminate) == 0


async def answers(client: AsyncClient) -> None:
    """Return when the server has its database again. The recovery may outlast a call's retries."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(*AWAY):
                await client.sessions.get("one")
                return
