"""Two servers that are restarted in turns while callers use them."""

import asyncio
from collections.abc import Callable

import pytest

from sessiond import AsyncClient

from ..support.integrity import assert_url_whole
from ..support.processes import ServerProcess, free_port
from ..support.soak import Soak

Start = Callable[..., ServerProcess]


class Pair:
    """Two servers of one database, each of which keeps its port when it is restarted."""

    def __init__(self, start: Start, database_url: str, drain_timeout_s: float) -> None:
        self._start = start
        self._flags = ("--drain-timeout-s", f"{drain_timeout_s}", "--log-level", "warning")
        self._environment = {"SESSIOND_DATABASE_URL": database_url}
        self._listen = [f"127.0.0.1:{free_port()}" for _ in range(2)]
        self._servers: list[ServerProcess] = []

    @property
    def target(self) -> str:
        return "ipv4:" + ",".join(self._listen)

    async def start(self) -> None:
        for listen in self._listen:
            self._servers.append(await self._started(listen))

    async def restart(self, number: int, *, kill: bool = False) -> None:
        server = self._servers[number]
        await asyncio.to_thread(server.kill if kill else server.terminate)
        self._servers[number] = await self._started(self._listen[number])

    async def _started(self, listen: str) -> ServerProcess:
        return await asyncio.to_thread(
            self._start, "--listen", listen, *self._flags, **self._environment
        )


async def soak(pair: Pair, *, restarts: int, pause_s: float, kill: bool = False) -> Soak:
    """Restart both servers in turns while work of every kind goes on."""
    await pair.start()
    async with AsyncClient(pair.target) as client:
        work = Soak(client)
        await work.start()
        for _ in range(restarts):
            for number in range(2):
                await asyncio.sleep(pause_s)
                await pair.restart(number, kill=kill)
        await work.stop()
        await work.check()
    print(dict(work.done), dict(work.errors))
    for kind in ("append", "turn", "read", "list", "import"):
        assert work.done[kind], kind
    return work


async def test_a_rolling_restart_is_no_error_to_any_caller(
    start_server: Start, database_url: str
) -> None:
    # Turns take two seconds, so some are handed over.
    pair = Pair(start_server, database_url, drain_timeout_s=0.5)
    assert not (await soak(pair, restarts=1, pause_s=2)).errors


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_ten_minutes_of_restarts_are_no_error_to_any_caller(
    start_server: Start, database_url: str
) -> None:
    pair = Pair(start_server, database_url, drain_timeout_s=0.5)
    assert not (await soak(pair, restarts=5, pause_s=55)).errors


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_servers_that_are_killed_lose_only_the_turns_that_they_ran(
    start_server: Start, database_url: str
) -> None:
    pair = Pair(start_server, database_url, drain_timeout_s=20)
    errors = (await soak(pair, restarts=5, pause_s=55, kill=True)).errors
    await assert_url_whole(database_url)
    assert all(error.startswith("turn: TURN_LOST") for error in errors), errors
