"""`--workers 2`: two processes share a port, are restarted when they die, and end together."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import psutil

from sessiond import AsyncClient

from ..support.embedded import is_alive, postmaster
from ..support.processes import ServerProcess
from ..support.waiting import until, until_async

Start = Callable[..., ServerProcess]

MAX_CONNECTIONS = 200


def workers_of(server: ServerProcess) -> set[int]:
    """Return the pids of the worker processes."""
    found = set()
    for child in psutil.Process(server.process.pid).children():
        try:
            if "sessiond_server.workers" in child.cmdline():
                found.add(child.pid)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def serving(server: ServerProcess, pids: set[int]) -> set[int]:
    """Return those of the processes that have a client's connection."""
    port = int(server.target.rpartition(":")[2])
    found = set()
    for pid in pids:
        try:
            connections = psutil.Process(pid).net_connections(kind="tcp")
        except psutil.NoSuchProcess:
            continue
        if any(
            c.status == psutil.CONN_ESTABLISHED and c.laddr and c.laddr.port == port
            for c in connections
        ):
            found.add(pid)
    return found


async def reach(
    clients: AsyncExitStack, server: ServerProcess, pids: set[int]
) -> list[AsyncClient]:
    """Open connections until each process has one; the kernel distributes them."""
    opened: list[AsyncClient] = []
    while serving(server, pids) != pids:
        assert len(opened) < MAX_CONNECTIONS, f"no connection reached one of {pids}"
        client = await clients.enter_async_context(AsyncClient(server.target))
        await client.get_or_create_session("one")
        opened.append(client)
    return opened


async def test_two_processes_serve_one_port(database_url: str, start_server: Start) -> None:
    server = await asyncio.to_thread(
        start_server, "--workers", "2", SESSIOND_DATABASE_URL=database_url
    )
    workers = workers_of(server)
    assert len(workers) == 2
    async with AsyncExitStack() as clients:
        opened = await reach(clients, server, workers)
        stored = await asyncio.gather(
            *(
                client.sessions.store_message("one", {"role": "user", "content": str(i)})
                for i, client in enumerate(opened * 20)
            )
        )
        seqs = sorted(answer.last_seq for answer in stored)
        assert seqs == list(range(1, len(stored) + 1))
        for client in opened:
            messages = await client.sessions.get_messages("one")
            assert [message.seq for message in messages] == seqs
    assert await asyncio.to_thread(server.terminate) == 0
    assert not [pid for pid in workers if is_alive(pid)]


async def test_a_killed_worker_is_replaced_and_its_clients_go_on(
    database_url: str, start_server: Start
) -> None:
    server = await asyncio.to_thread(
        start_server, "--workers", "2", SESSIOND_DATABASE_URL=database_url
    )
    workers = workers_of(server)
    async with AsyncExitStack() as clients:
        opened = await reach(clients, server, workers)
        port = int(server.target.rpartition(":")[2])
        gone: set[int] = set()

        def are_two_again() -> bool:
            running = workers_of(server)
            return (
                len(running) == 2
                and not running & gone
                and all(_listens(pid, port) for pid in running)
            )

        for killed in workers:
            psutil.Process(killed).kill()
            gone.add(killed)
            # The clients of the killed worker reconnect to the other worker.
            for client in opened:
                assert (
                    await client.sessions.store_message("one", {"role": "user", "content": "x"})
                ).last_seq
            # Kill the other worker only when two run again, so that one always serves.
            await until_async(are_two_again, "two workers listened again")
        renewed = workers_of(server)
        await reach(clients, server, renewed)
        assert server.process.poll() is None
    assert await asyncio.to_thread(server.terminate) == 0
    assert not [pid for pid in workers | renewed if is_alive(pid)]


def _listens(pid: int, port: int) -> bool:
    try:
        connections = psutil.Process(pid).net_connections(kind="tcp")
    except psutil.NoSuchProcess:
        return False
    return any(
        c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port for c in connections
    )


async def test_sigterm_ends_all_workers_and_postgres(data_dir: Path, start_server: Start) -> None:
    server = await asyncio.to_thread(
        start_server, "--workers", "2", SESSIOND_DATA_DIR=str(data_dir)
    )
    everybody = [
        child.pid for child in psutil.Process(server.process.pid).children(recursive=True)
    ] + [postmaster(data_dir)]
    assert len(everybody) > 2
    async with AsyncClient(server.target) as client:
        session = await client.create_session("one")
        await session.store_message({"role": "user", "content": "x"})
        assert await asyncio.to_thread(server.terminate) == 0
    assert not [pid for pid in everybody if is_alive(pid)]


def test_workers_end_with_their_parent(data_dir: Path, start_server: Start) -> None:
    server = start_server("--workers", "2", SESSIOND_DATA_DIR=str(data_dir))
    workers = workers_of(server)
    assert len(workers) == 2
    server.kill()
    until(lambda: not any(is_alive(pid) for pid in workers), "the workers of a killed server ended")
    # The next server can use the same port and directory.
    again = start_server(
        "--workers", "2", "--listen", server.target, SESSIOND_DATA_DIR=str(data_dir)
    )
    assert len(workers_of(again)) == 2
    assert again.terminate() == 0
