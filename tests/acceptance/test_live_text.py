"""Pages that reload in the middle of an answer, on servers that are killed."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack

import grpc
import pytest

from sessiond import AsyncClient
from sessiond.v1.conversation_service_pb2 import WatchRequest
from sessiond.v1.turn_pb2 import TURN_STATE_COMPLETED, TURN_STATE_FAILED

from ..support.processes import ServerProcess
from ..support.proxy import CuttingProxy
from ..support.turns import Sent
from ..support.wire import Wire
from ..turns.calls import turn_of
from ..turns.live_texts import Page

Start = Callable[..., ServerProcess]

pytestmark = pytest.mark.slow

# 600 deltas in about six seconds, with characters outside the Basic Multilingual Plane.
TEXT = "".join(f"{number:04}\N{GRINNING FACE} " for number in range(600)).strip()
OPTIONS = {"echo_text": TEXT, "echo_delay_ms": 10}
VISITS = 50
PATIENCE_S = 120


@pytest.fixture
async def servers(database_url: str, start_server: Start) -> list[ServerProcess]:
    """Two servers of one database, whose leases run out soon."""
    return [
        await asyncio.to_thread(
            start_server, SESSIOND_DATABASE_URL=database_url, SESSIOND_TURN_LEASE_S="1"
        )
        for _ in range(2)
    ]


async def wires(servers: list[ServerProcess], stack: AsyncExitStack) -> list[Wire]:
    return [
        Wire(await stack.enter_async_context(grpc.aio.insecure_channel(server.target)))
        for server in servers
    ]


async def visit(wire: Wire, responses: int) -> tuple[Page, str]:
    """Reload the page. Stay for a few responses, or until the answer arrives.

    Returns:
        The page, and the answer; "" = the page was left before the answer arrived.
    """
    page = Page()
    call = wire.conversations.Watch(WatchRequest(session_id="one", after_seq=0))
    try:
        async for response in call:
            for event in response.events:
                if event.type == "assistant.message":
                    return page, json.loads(event.message.json)["content"]
                page.take([event])
            responses -= bool(page.text)
            if responses <= 0:
                break
    finally:
        call.cancel()
    return page, ""


async def test_a_page_that_reloads_fifty_times_shows_the_whole_answer(
    servers: list[ServerProcess],
) -> None:
    async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_S):
        both = await wires(servers, stack)
        await both[0].create("one", model="echo")
        sent = Sent(both[0], "one", {"prompt": "hi", "options": OPTIONS})
        await sent.read()
        visits, answer = 0, ""
        longest = ""
        while not answer:
            page, answer = await visit(both[visits % 2], 3)
            visits += 1
            assert TEXT.startswith(page.text)
            assert len(page.text) >= len(longest) or answer
            assert page.is_first_partial or answer or not longest
            longest = max(longest, page.text, key=len)
        await sent.end()
        assert answer == TEXT == sent.delta_text
        assert visits > VISITS


@pytest.mark.parametrize("call", ["stream", "events"])
async def test_a_client_whose_connections_are_cut_receives_each_character_once(
    servers: list[ServerProcess], call: str
) -> None:
    # A connection begins with the text so far. The whole text has 5,400 bytes, so each connection
    # makes progress before the proxy cuts it.
    cuts = [10_000 + 100 * number for number in range(VISITS)]
    with CuttingProxy(servers[0].target, cuts) as proxy:
        async with asyncio.timeout(PATIENCE_S), AsyncClient(proxy.target) as client:
            session = await client.create_session("one", model="echo")
            text = ""
            if call == "stream":
                events = session.stream("hi", options=OPTIONS)
            else:
                async with AsyncClient(servers[1].target) as direct:
                    await direct.sessions.send("one", "hi", options=OPTIONS)
                events = session.events(0)
            async for event in events:
                if event.type == "assistant.message_partial":
                    assert not text
                    text = event.data.content
                elif event.type == "assistant.message_delta":
                    text += event.data.delta_content
                elif event.type == "assistant.message":
                    assert TEXT.startswith(text)
                    assert event.message
                    assert event.message.content == TEXT
                    break
            assert proxy.cuts_made >= 3


async def test_a_killed_server_loses_at_most_the_last_second(
    servers: list[ServerProcess],
) -> None:
    async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_S):
        here, there = await wires(servers, stack)
        await here.create("one", model="echo")
        sent = Sent(here, "one", {"prompt": "hi", "options": OPTIONS})
        await sent.read()
        # Note the times, to find out how much text the client had a second before the kill.
        loop = asyncio.get_running_loop()
        seen: list[tuple[float, int]] = []
        while len(sent.delta_text) < len(TEXT) // 2:
            assert await sent.read()
            seen.append((loop.time(), len(sent.delta_text)))
        killed = loop.time()
        servers[0].kill()
        while (turn := await turn_of(there, sent.turn.turn_id)).state != TURN_STATE_FAILED:
            await asyncio.sleep(0.05)
        assert turn.error.reason == "TURN_LOST"
        message = await there.message("one", turn.partial_seq)
        assert message.incomplete
        kept = json.loads(message.json)["content"]
        assert TEXT.startswith(kept)
        assert len(kept) >= max((n for time, n in seen if time < killed - 1), default=0)
        answer = Sent(there, "one", {"prompt": "go on"})
        assert (await answer.end()).state == TURN_STATE_COMPLETED


async def test_a_page_sees_the_rest_of_an_answer_after_its_server_was_killed(
    servers: list[ServerProcess],
) -> None:
    async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_S):
        here, there = await wires(servers, stack)
        await here.create("one", model="echo")
        sent = Sent(there, "one", {"prompt": "hi", "options": OPTIONS})
        await sent.read()
        page, answer = await visit(here, 5)
        assert not answer
        servers[0].kill()
        while not answer:
            page, answer = await visit(there, 5)
            assert TEXT.startswith(page.text)
        assert answer == TEXT
