"""Reading a large session.

Memory is bounded, slow readers hold no database connection, and broken connections neither lose nor
repeat messages.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sessiond import AsyncClient, Client, Message

from ..support.databases import Databases, url_of
from ..support.processes import ServerProcess
from ..support.proxy import CuttingProxy
from ..support.waiting import PATIENCE_S, until_async

Start = Callable[..., ServerProcess]
Query = Callable[..., list[tuple[object, ...]]]

MILLION = 1_000_000
MANY = 50_000
MAX_GROWTH_BYTES = 100 * 1024 * 1024
PADDING = "A quite ordinary sentence of a conversation, long enough to be one. " * 4

# Bytes from the server before each cut: in the handshake, in the first pages, within large ones.
CUTS = (10, 20_000, 700_000, 60, 333_333, 1_500_000, 100_000, 5, 2_000_000)


def text_of(seq: int) -> str:
    """Return the message with a seq: about 300 bytes."""
    return f'{{"role":"{"user" if seq % 2 else "assistant"}","content":"{seq}: {PADDING}"}}'


def texts(count: int) -> Iterator[str]:
    return (text_of(seq) for seq in range(1, count + 1))


@pytest.fixture(scope="module")
def imported(
    postgres: str, databases: Databases, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The name of a database with a session "many" of 50,000 messages, which tests copy."""
    name = databases.create(template)
    log = tmp_path_factory.mktemp("imported") / "server.log"
    server = ServerProcess((), {"SESSIOND_DATABASE_URL": url_of(postgres, name)}, log)
    try:
        server.wait_until_ready()
        with Client(server.target) as client:
            client.create_session("many").import_messages(texts(MANY))
    finally:
        server.end()
    yield name
    databases.leave(name)


@pytest.fixture
def database_url(postgres: str, databases: Databases, imported: str) -> Iterator[str]:
    """The URL of a new database with the session "many"."""
    name = databases.create(imported)
    yield url_of(postgres, name)
    databases.leave(name)


@pytest.fixture
def many(database_url: str, start_server: Start) -> ServerProcess:
    """A server with the session "many"."""
    return start_server(SESSIOND_DATABASE_URL=database_url, SESSIOND_DRAIN_TIMEOUT_S="3")


@pytest.fixture(scope="module")
def steady(
    postgres: str, databases: Databases, imported: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A server with the session "many". Tests change neither the session nor the server."""
    name = databases.create(imported)
    log = tmp_path_factory.mktemp("steady") / "server.log"
    server = ServerProcess((), {"SESSIOND_DATABASE_URL": url_of(postgres, name)}, log)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.end()
    databases.leave(name)


def peak_bytes(process: psutil.Process) -> int:
    """Return the peak of resident memory on Linux, and the present value elsewhere."""
    status = Path(f"/proc/{process.pid}/status")
    if status.exists():
        return next(
            int(line.split()[1]) * 1024
            for line in status.read_text().splitlines()
            if line.startswith("VmHWM:")
        )
    return process.memory_info().rss


def check_message(message: Message, seq: int) -> None:
    assert message.seq == seq
    assert message.json == text_of(seq)


# Options of a read, and the seqs that it returns.
READINGS: list[tuple[dict[str, Any], range]] = [
    ({}, range(1, MANY + 1)),
    ({"order": "desc"}, range(MANY, 0, -1)),
    ({"roles": ["assistant"], "after_seq": 100, "limit": 24_000}, range(102, 48_102, 2)),
]


@pytest.mark.parametrize(("options", "seqs"), READINGS, ids=["all", "backwards", "filtered"])
def test_cut_connections_leave_no_gap(
    steady: ServerProcess, options: dict[str, Any], seqs: range
) -> None:
    with CuttingProxy(steady.target, CUTS) as proxy, Client(proxy.target) as client:
        messages = client.sessions.get_messages("many", **options)
        for message, seq in zip(messages, seqs, strict=True):
            check_message(message, seq)
        assert proxy.cuts_made == len(CUTS)
        assert proxy.connections > len(CUTS)


@pytest.mark.parametrize(("options", "seqs"), READINGS, ids=["all", "backwards", "filtered"])
async def test_cut_connections_leave_no_gap_async(
    steady: ServerProcess, options: dict[str, Any], seqs: range
) -> None:
    with CuttingProxy(steady.target, CUTS) as proxy:
        async with AsyncClient(proxy.target) as client:
            expected = iter(seqs)
            async for message in client.sessions.get_messages("many", **options):
                check_message(message, next(expected))
            assert next(expected, None) is None
        assert proxy.cuts_made == len(CUTS)
        assert proxy.connections > len(CUTS)


def test_later_appends_are_not_mixed_into_a_read_over_many_connections(
    many: ServerProcess,
) -> None:
    with (
        CuttingProxy(many.target, CUTS) as proxy,
        Client(proxy.target) as client,
        Client(many.target) as other,
    ):
        seqs = range(1, MANY + 1)
        for message, seq in zip(client.sessions.get_messages("many"), seqs, strict=True):
            check_message(message, seq)
            if seq % 5000 == 1:
                other.sessions.store_message("many", {"role": "user", "content": "later"})
        assert proxy.cuts_made == len(CUTS)


@pytest.mark.parametrize("cut", [100_000, 1_000_000, 3_000_000, 5_555_555])
async def test_a_cut_import_of_a_list_is_sent_again(steady: ServerProcess, cut: int) -> None:
    sent = list(texts(20_000))
    with CuttingProxy(steady.target, [cut, cut + 77_777, cut + 1], upwards=True) as proxy:
        async with AsyncClient(proxy.target) as client:
            session = await client.create_session(f"cut at {cut}")
            stored = await session.import_messages(sent)
            assert (stored.first_seq, stored.last_seq) == (1, len(sent))
            assert [message.json for message in await session.get_messages()] == sent
        assert proxy.cuts_made == 3


KILLS = (1, 12_345, 33_333)


def test_a_killed_server_leaves_no_gap(
    many: ServerProcess, database_url: str, start_server: Start
) -> None:
    server = many
    with CuttingProxy(many.target) as proxy, Client(proxy.target) as client:
        for message, seq in zip(
            client.sessions.get_messages("many"), range(1, MANY + 1), strict=True
        ):
            check_message(message, seq)
            if seq in KILLS:
                server.kill()
                server = start_server("--listen", many.target, SESSIOND_DATABASE_URL=database_url)
        # The last kill may happen after everything has arrived.
        assert proxy.connections >= len(KILLS)


async def test_a_killed_server_leaves_no_gap_async(
    many: ServerProcess, database_url: str, start_server: Start
) -> None:
    server = many
    with CuttingProxy(many.target) as proxy:
        async with AsyncClient(proxy.target) as client:
            expected = itertools.count(1)
            async for message in client.sessions.get_messages("many"):
                check_message(message, next(expected))
                if message.seq in KILLS:
                    # Meanwhile the client reads data that has arrived, and reconnects.
                    await asyncio.to_thread(server.kill)
                    restart = asyncio.to_thread(
                        start_server, "--listen", many.target, SESSIOND_DATABASE_URL=database_url
                    )
                    server = await restart
            assert next(expected) == MANY + 1
        # The last kill may happen after everything has arrived.
        assert proxy.connections >= len(KILLS)


def test_a_terminated_server_hands_its_streams_over(
    many: ServerProcess, database_url: str, start_server: Start
) -> None:
    with Client(many.target) as client:
        for message, seq in zip(
            client.sessions.get_messages("many"), range(1, MANY + 1), strict=True
        ):
            check_message(message, seq)
            if seq == 1000:
                assert many.terminate() == 0
                start_server("--listen", many.target, SESSIOND_DATABASE_URL=database_url)


async def test_a_slow_reader_holds_no_connection(
    database_url: str, start_server: Start, query: Query
) -> None:
    """The pool has one database connection, and serves other calls while a dozen readers pause."""
    server = await asyncio.to_thread(
        start_server,
        SESSIOND_DATABASE_URL=database_url,
        SESSIOND_POOL_SIZE="1",
        SESSIOND_PAGE_CACHE_BYTES="0",
    )
    go_on = asyncio.Event()

    async def read(client: AsyncClient, started: asyncio.Event) -> int:
        seqs = itertools.count(1)
        async for message in client.sessions.get_messages("many"):
            check_message(message, next(seqs))
            started.set()
            await go_on.wait()
        return next(seqs) - 1

    def busy() -> list[tuple[object, ...]]:
        return query(
            "SELECT pid, state, query FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND state <> 'idle'"
        )

    async with AsyncClient(server.target) as client, AsyncClient(server.target) as other:
        started = [asyncio.Event() for _ in range(12)]
        readers = [asyncio.create_task(read(client, event)) for event in started]
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(*(event.wait() for event in started))
            # As soon as the server has read ahead, no statement runs and no transaction is open.
            await until_async(lambda: not busy(), "the database had nothing to do")
            assert query("SELECT count(*) FROM pg_cursors") == [(0,)]
            for number in range(50):
                await other.get_or_create_session("small")
                assert (
                    await other.sessions.store_message("small", {"role": "user", "content": "x"})
                ).last_seq == number + 1
            assert len(await other.sessions.get_messages("small")) == 50
            assert not any(reader.done() for reader in readers)
        finally:
            go_on.set()
        assert await asyncio.gather(*readers) == [MANY] * 12


async def test_readers_that_stop_early_leave_no_error_in_the_log(many: ServerProcess) -> None:
    """Half of the readers leave the loop, and half close the client."""
    async with AsyncClient(many.target) as client:
        readings = [
            aiter(client.sessions.get_messages("many", after_seq=number)) for number in range(20)
        ]
        for number, messages in enumerate(readings):
            check_message(await anext(messages), number + 1)
        for messages in readings[:10]:
            await messages.aclose()  # type: ignore[attr-defined]
        await client.stop()
        for messages in readings[10:]:
            await messages.aclose()  # type: ignore[attr-defined]
    async with AsyncClient(many.target) as client:
        assert len(await client.sessions.get_messages("many")) == MANY
    assert await asyncio.to_thread(many.terminate) == 0
    log = many.log.read_text()
    assert "Traceback" not in log
    assert '"level": "error"' not in log


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_a_million_messages_in_bounded_memory(database_url: str, start_server: Start) -> None:
    first = await asyncio.to_thread(start_server, SESSIOND_DATABASE_URL=database_url)
    async with AsyncClient(first.target) as client:
        session = await client.create_session("million")
        stored = await session.import_messages(texts(MILLION))
        assert (stored.first_seq, stored.last_seq) == (1, MILLION)
    assert await asyncio.to_thread(first.terminate) == 0

    # Start a new process: memory that the import freed would hide the memory of the reads.
    server = await asyncio.to_thread(start_server, SESSIOND_DATABASE_URL=database_url)
    process = psutil.Process(server.process.pid)
    async with AsyncClient(server.target) as client:
        await client.sessions.get("million")
        before = process.memory_info().rss
        largest = peak_bytes(process)
        assert largest - before < MAX_GROWTH_BYTES / 2, (
            "the start itself takes so much that the peak would hide the reading"
        )
        expected = itertools.count(1)
        async for message in client.sessions.get_messages("million"):
            seq = next(expected)
            assert message.seq == seq
            assert message.json == text_of(seq)
            if seq % 2000 == 0:
                largest = max(largest, peak_bytes(process))
        assert next(expected) == MILLION + 1
        growth = largest - before
        print(f"one reader: {before >> 20} MiB before, {growth >> 20} MiB more while streaming")
        assert growth < MAX_GROWTH_BYTES
        # Eight paused readers and one active reader: their buffers are bounded as well.
        paused = [
            aiter(client.sessions.get_messages("million", after_seq=100_000 * number))
            for number in range(8)
        ]
        for number, messages in enumerate(paused):
            assert (await anext(messages)).seq == 100_000 * number + 1
        async for message in client.sessions.get_messages("million", after_seq=MILLION - 200_000):
            if message.seq % 2000 == 0:
                largest = max(largest, peak_bytes(process))
        for messages in paused:
            await messages.aclose()  # type: ignore[attr-defined]
        growth = largest - before
        print(f"nine readers: {growth >> 20} MiB more than before")
        assert growth < MAX_GROWTH_BYTES
