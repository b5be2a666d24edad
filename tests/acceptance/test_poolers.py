"""Long runs behind PgBouncer, and behind HAProxy while a primary becomes read-only.

Other long runs have streams without events behind a proxy that cuts silent connections.

SESSIOND_SOAK_S is the duration of a run in seconds. The default is 120.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from sessiond import AsyncClient

from ..support.pgbouncer import pgbouncer
from ..support.processes import ServerProcess, free_port
from ..support.replication import haproxy, replicated
from ..support.soak import Soak

Start = Callable[..., ServerProcess]

LENGTH_S = float(os.environ.get("SESSIOND_SOAK_S", "120"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@asynccontextmanager
async def working(start: Start, database_url: str) -> AsyncIterator[list[ServerProcess]]:
    """Start two servers, and let work of every kind go on; no caller may see an error."""
    servers = []
    for _ in range(2):
        listen = f"127.0.0.1:{free_port()}"
        servers.append(
            await asyncio.to_thread(
                start, "--listen", listen, "--log-level", "info", SESSIOND_DATABASE_URL=database_url
            )
        )
    target = "ipv4:" + ",".join(server.target for server in servers)
    async with AsyncClient(target) as client:
        work = Soak(client)
        await work.start()
        yield servers
        await work.stop()
        await work.check()
    print(dict(work.done), dict(work.errors))
    assert not work.errors
    for kind in ("append", "turn", "read", "list", "import"):
        assert work.done[kind], kind
    for server in servers:
        text = server.log.read_text()
        assert '"level": "error"' not in text
        assert "INTERNAL" not in text


async def test_a_soak_behind_pgbouncer_is_no_error_to_any_caller(
    start_server: Start, database_url: str
) -> None:
    with pgbouncer(database_url, pool_size=5) as url:
        async with working(start_server, url) as servers:
            await asyncio.sleep(LENGTH_S)
        assert all("pooler_found" in server.log.read_text() for server in servers)


async def test_a_failover_behind_haproxy_is_no_error_to_any_caller(start_server: Start) -> None:
    with replicated() as both, haproxy(both.ports) as port:
        url = f"postgresql://sessiond@127.0.0.1:{port}/sessiond"
        async with working(start_server, url):
            await asyncio.sleep(LENGTH_S / 2)
            await asyncio.to_thread(both.fail_over)
            await asyncio.sleep(LENGTH_S / 2)
        with both.connect(1) as connection:
            assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)


@pytest.mark.parametrize("silence", ["10s", "1s"])
async def test_quiet_streams_go_on_behind_a_proxy_that_cuts_silent_connections(
    start_server: Start, database_url: str, silence: str
) -> None:
    server = await asyncio.to_thread(start_server, SESSIOND_DATABASE_URL=database_url)
    with haproxy((int(server.target.rpartition(":")[2]),), silence=silence) as port:
        async with AsyncClient(f"127.0.0.1:{port}") as client:
            session = await client.create_session("one", model="echo")
            seen = []

            async def watch() -> None:
                async for event in session.events(after_seq=0):
                    if event.seq:
                        seen.append(event.seq)
                    if event.seq == 4:
                        return

            watching = asyncio.create_task(watch())
            await session.store_messages([{"role": "user", "content": "hello"}])
            await asyncio.sleep(25)
            await session.store_messages([{"role": "user", "content": "again"}])
            # The turn writes nothing for 13 seconds. The proxy cuts a silent connection earlier.
            options = {"echo_text": "one two", "echo_delay_ms": 13_000}
            assert await session.send_and_wait("hi", options=options, timeout=120)
            await asyncio.wait_for(watching, 60)
            assert seen == [1, 2, 3, 4]
