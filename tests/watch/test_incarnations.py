"""Watchers of sessions that are deleted and created again with the same id."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from sessiond import AsyncClient
from sessiond.errors import SessionNotFound
from sessiond.v1.conversation_service_pb2 import WatchRequest
from sessiond_server.server import Running, drain, serving
from sessiond_server.settings import Settings

from ..support.watching import PATIENCE_S, Watcher, watching
from ..support.wire import Wire, error_of

RECREATIONS = 20


@pytest.fixture
async def other(settings: Settings, database_url: str) -> AsyncIterator[Wire]:
    """Another server of the same database."""
    async with (
        serving(settings, database_url) as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        yield Wire(channel)


@pytest.fixture(params=["here", "there"])
def elsewhere(request: pytest.FixtureRequest, wire: Wire, other: Wire) -> Wire:
    """The server of the watcher, or another one."""
    return wire if request.param == "here" else other


async def incarnation_of(watcher: Watcher) -> str:
    """Return the incarnation in the first response of a new watcher."""
    response = await watcher.response()
    watcher._events += response.events
    assert response.incarnation
    return response.incarnation


async def recreate(wire: Wire, *texts: str) -> None:
    await wire.delete("one")
    await wire.create("one")
    for text in texts:
        await wire.store("one", text)


async def types_until(watcher: Watcher, type_: str) -> list[str]:
    types: list[str] = []
    while not types or types[-1] != type_:
        types.append((await watcher.event()).type)
    return types


async def test_a_watcher_receives_nothing_of_the_next_session(wire: Wire, elsewhere: Wire) -> None:
    for number in range(RECREATIONS):
        await wire.create("one")
        await wire.store("one", f"old {number}")
        watcher = await watching(wire, "one", after_seq=0)
        # There is no pause, so the next session may exist before the watcher checks.
        await recreate(elsewhere, f"new {number}", f"newer {number}")
        error = await watcher.error()
        assert error.reason == "SESSION_NOT_FOUND"
        texts = [event.message.json for event in watcher._events if event.seq]
        assert len(texts) == 1
        assert f"old {number}" in texts[0]
        await elsewhere.delete("one")


@pytest.mark.parametrize("by", ["incarnation", "etag"])
async def test_a_watch_does_not_go_on_with_the_next_session(
    wire: Wire, elsewhere: Wire, by: str
) -> None:
    etag = (await wire.create("one")).etag
    await wire.store("one", "old")
    watcher = Watcher(wire, "one", {"after_seq": 0})
    incarnation = await incarnation_of(watcher) if by == "incarnation" else etag
    again = await watching(elsewhere, "one", after_seq=1, incarnation=incarnation)
    await wire.store("one", "more")
    assert (await again.through(2))[-1].seq == 2
    await recreate(wire, "new", "newer")
    call = elsewhere.conversations.Watch(
        WatchRequest(session_id="one", after_seq=1, incarnation=incarnation)
    )
    assert (await error_of(call)).reason == "SESSION_NOT_FOUND"


async def test_a_watch_can_begin_again_with_the_next_session(wire: Wire, elsewhere: Wire) -> None:
    await wire.create("one")
    await wire.store("one", "old", "older")
    first = await incarnation_of(Watcher(wire, "one", {}))
    await recreate(elsewhere, "new")
    fields: dict[str, Any] = {"after_seq": 2, "incarnation": first, "follow_recreated": True}
    watcher = Watcher(elsewhere, "one", fields)
    second = await incarnation_of(watcher)
    assert second != first
    assert await types_until(watcher, "user.message") == ["session.recreated", "user.message"]
    # The next stream continues after the first message of the new session.
    await elsewhere.store("one", "newer")
    fields |= {"after_seq": 1, "incarnation": second}
    assert [e.type for e in await (await watching(wire, "one", **fields)).through(2)] == [
        "user.message"
    ]


async def test_a_stream_can_outlive_its_session(wire: Wire, elsewhere: Wire) -> None:
    await wire.create("one")
    watcher = await watching(wire, "one", after_seq=0, follow_recreated=True)
    await elsewhere.store("one", "old")
    await watcher.through(1)
    for number in range(3):
        await elsewhere.delete("one")
        assert "session.deleted" in await types_until(watcher, "session.deleted")
        await elsewhere.create("one")
        await elsewhere.store("one", f"new {number}")
        assert (await types_until(watcher, "session.recreated"))[-1:] == ["session.recreated"]
        events = await watcher.through(1)
        assert f"new {number}" in events[-1].message.json
        assert [event.seq for event in events if event.seq] == [1]


async def test_a_session_that_never_was_is_not_waited_for(wire: Wire) -> None:
    call = wire.conversations.Watch(WatchRequest(session_id="none", follow_recreated=True))
    assert (await error_of(call)).reason == "SESSION_NOT_FOUND"


async def test_a_stream_that_waits_ends_with_its_server(wire: Wire, server: Running) -> None:
    await wire.create("one")
    watcher = await watching(wire, "one", follow_recreated=True)
    await wire.delete("one")
    await types_until(watcher, "session.deleted")
    draining = asyncio.ensure_future(drain(server, delay_s=0, timeout_s=3600))
    assert (await watcher.error()).reason == "SERVER_DRAINING"
    async with asyncio.timeout(PATIENCE_S):
        await draining


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"incarnation": "x"}, "incarnation"),
        ({"follow_recreated": True}, "follow_recreated"),
        ({"session_id": "one", "incarnation": "x" * 200}, "incarnation"),
    ],
)
async def test_invalid_fields_are_refused(wire: Wire, fields: dict[str, Any], field: str) -> None:
    error = await error_of(wire.conversations.Watch(WatchRequest(**fields)))
    assert (error.reason, list(error.fields)) == ("INVALID_FIELD", [field])


async def test_the_client_follows_only_if_asked(server: Running) -> None:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        session = await client.create_session("one")
        await session.store_message({"role": "user", "content": "old"})
        stays, follows = (
            aiter(client.sessions.events("one", 0, follow_recreated=follow))
            for follow in (False, True)
        )
        for events in (stays, follows):
            assert (await anext(events)).seq == 1
        await session.delete()
        again = await client.create_session("one")
        await again.store_message({"role": "user", "content": "new"})
        with pytest.raises(SessionNotFound):
            assert [event async for event in stays if event.message] == []
        types = []
        async with asyncio.timeout(PATIENCE_S):
            async for event in follows:
                types.append(event.type)
                if event.message:
                    assert event.message.content == "new"
                    break
        assert types[-2:] == ["session.recreated", "user.message"]
