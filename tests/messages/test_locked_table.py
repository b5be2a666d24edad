"""Appends while another program has locked the table of messages."""

import asyncio

import psycopg

from ..support.waiting import waiting_for_locks
from ..support.wire import Wire, WireError, end_of


async def test_appends_that_meet_a_locked_table_share_one_connection(
    wire: Wire, database_url: str
) -> None:
    """Many sessions have one append each. All appends except one wait in memory."""
    sessions = [f"s{i}" for i in range(20)]
    for session_id in sessions:
        await wire.create(session_id)

    def appends() -> list[asyncio.Future[WireError | None]]:
        return [
            asyncio.ensure_future(end_of(wire.store(session_id, "x"))) for session_id in sessions
        ]

    with (
        psycopg.connect(database_url) as blocker,
        psycopg.connect(database_url, autocommit=True) as observer,
    ):
        blocker.execute("LOCK TABLE messages")
        refused = await asyncio.gather(*appends())
        refused_later = appends()
        waiting = 0
        while not all(one.done() for one in refused_later):
            waiting = max(waiting, waiting_for_locks(observer))
            await wire.get("s0")
        assert waiting == 1
        for end in (*refused, *[one.result() for one in refused_later]):
            assert end
            assert (end.reason, end.retry_s) == ("OVERLOADED", 1.0)
    assert await asyncio.gather(*appends()) == [None] * len(sessions)
    assert (await wire.store("s0", "y")).first_seq == 2
