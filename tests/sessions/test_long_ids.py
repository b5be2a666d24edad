"""Session ids of 1,024 characters, in every field that takes one."""

import random

import pytest

from sessiond import AsyncClient, SessionNotFound
from sessiond.v1.session_service_pb2 import SESSION_ORDER_ID_ASC
from sessiond_server.server import Running

from ..support.wire import Wire, error_of

RNG = random.Random(1)
# Incompressible text, because indexes compress their values.
LONG = [
    "".join(chr(RNG.randint(first, last)) for _ in range(1024))
    for first, last in ((0x21, 0x7E), (0x21, 0x7E), (0x400, 0x4FF), (0x100, 0x17F))
]


async def test_long_ids_are_ids(wire: Wire) -> None:
    for session_id in LONG:
        await wire.create(session_id)
        await wire.store(session_id, "a", "b")
        assert await wire.texts(session_id) == ["a", "b"]
    ids = [s.session_id for s in await wire.list(order=SESSION_ORDER_ID_ASC, page_size=1)]
    assert ids == sorted(LONG)
    [found] = await wire.list(session_id_prefix=LONG[2][:1000])
    assert found.session_id == LONG[2]
    assert [s.session_id for s in await wire.list(session_id_prefix=LONG[0])] == [LONG[0]]
    copy = await wire.copy(LONG[2], LONG[2][::-1])
    assert (copy.session.origin.session_id, copy.session.last_seq) == (LONG[2], 2)


@pytest.mark.parametrize("session_id", ["x" * 1025, "☕" * 683], ids=["characters", "bytes"])
async def test_longer_ones_are_refused(wire: Wire, session_id: str) -> None:
    error = await error_of(wire.create(session_id))
    assert (error.reason, list(error.fields)) == ("INVALID_FIELD", ["session.session_id"])


async def test_errors_about_long_ids_reach_the_client(server: Running) -> None:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        for session_id in (*LONG, "☕" * 682):
            with pytest.raises(SessionNotFound) as caught:
                await client.sessions.get(session_id)
            assert caught.value.metadata["session_id"] == session_id


async def test_watchers_and_handles_take_long_ids(server: Running) -> None:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        session = await client.create_session(LONG[2], model="echo")
        answer = await session.send_and_wait("hi")
        assert answer.content.endswith("hi")
        assert answer.id == f"{LONG[2]}/2"
        async for event in session.events(0):
            assert event.type == "user.message"
            break
