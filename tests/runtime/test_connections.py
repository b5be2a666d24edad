"""The maximum age of connections."""

import asyncio

from sessiond import AsyncClient
from sessiond_server.server import serving
from sessiond_server.settings import Settings

from ..support.proxy import CuttingProxy
from ..support.waiting import PATIENCE_S


async def test_clients_connect_anew_after_a_while_and_lose_no_call(
    settings: Settings, database_url: str
) -> None:
    aging = {"max_connection_age_s": 0.2, "max_connection_grace_s": 60.0}
    async with serving(settings.model_copy(update=aging), database_url) as running:
        with CuttingProxy(f"127.0.0.1:{running.port}") as proxy:
            async with AsyncClient(proxy.target) as client, asyncio.timeout(PATIENCE_S):
                session = await client.create_session("one")
                seqs = []
                # Continue until the client has connected anew three times.
                while proxy.connections < 4:
                    stored = await session.store_message({"role": "user", "content": "x"})
                    seqs.append(stored.first_seq)
    assert seqs == list(range(1, len(seqs) + 1))
