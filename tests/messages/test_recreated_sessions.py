"""Reads never go on in another session that was created with the id of a deleted one."""

from typing import Any
from uuid import UUID

import pytest

from sessiond import AsyncClient
from sessiond.errors import SessionNotFound
from sessiond.v1 import session_service_pb2 as ss
from sessiond.v1.session_service_pb2 import MESSAGE_ORDER_ASC, MESSAGE_ORDER_DESC
from sessiond_server.imports.store import Snapshot, SnapshotStore
from sessiond_server.messages.history import History
from sessiond_server.server import Running

from ..support.wire import Wire, error_of


@pytest.fixture
async def five(wire: Wire) -> Wire:
    """A session "one" of five messages."""
    await wire.create("one")
    await wire.store("one", *"abcde")
    return wire


async def recreate(wire: Wire) -> None:
    """Replace the session by another one with the same id and as many messages."""
    await wire.delete("one")
    await wire.create("one")
    await wire.store("one", *"vwxyz")


async def test_a_read_of_an_incarnation_ends_with_its_session(five: Wire) -> None:
    incarnation = (await five.get("one")).etag
    assert await five.texts("one", incarnation=incarnation) == list("abcde")
    await recreate(five)
    request = ss.GetMessagesRequest(session_id="one", after_seq=2, incarnation=incarnation)
    error = await error_of(five.sessions.GetMessages(request))
    assert error.reason == "SESSION_NOT_FOUND"
    assert await five.texts("one", incarnation=(await five.get("one")).etag) == list("vwxyz")


async def test_an_etag_of_before_an_append_names_the_same_session(five: Wire) -> None:
    incarnation = (await five.get("one")).etag
    await five.store("one", "f")
    assert await five.texts("one", after_seq=4, incarnation=incarnation) == ["e", "f"]


async def test_what_is_no_incarnation_is_refused(five: Wire) -> None:
    request = ss.GetMessagesRequest(session_id="one", incarnation="x" * 129)
    error = await error_of(five.sessions.GetMessages(request))
    assert (error.reason, list(error.fields)) == ("INVALID_FIELD", ["incarnation"])


@pytest.mark.parametrize("order", [MESSAGE_ORDER_ASC, MESSAGE_ORDER_DESC])
async def test_pages_do_not_go_on_in_another_session(five: Wire, order: Any) -> None:
    request = ss.ListMessagesRequest(session_id="one", page_size=2, order=order)
    request.page_token = (await five.sessions.ListMessages(request)).next_page_token
    await recreate(five)
    error = await error_of(five.sessions.ListMessages(request))
    assert error.reason == "SESSION_NOT_FOUND"
    request.page_token = ""
    assert len((await five.sessions.ListMessages(request)).messages) == 2


async def test_an_export_has_no_messages_of_another_session(
    five: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session is deleted and created again between the snapshot and the first message."""
    read = SnapshotStore.read

    async def then_recreated(store: SnapshotStore, key: UUID, project_id: UUID) -> Snapshot | None:
        snapshot = await read(store, key, project_id)
        await recreate(five)
        return snapshot

    monkeypatch.setattr(SnapshotStore, "read", then_recreated)
    error = await error_of(five.sessions.ExportSession(ss.ExportSessionRequest(session_id="one")))
    assert error.reason == "SESSION_NOT_FOUND"


async def test_an_export_that_breaks_does_not_go_on_in_another_session(
    five: Wire, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream breaks after the snapshot, and the client reads the messages that are missing."""
    stream = History.stream
    attempts = 0

    async def broken_once(history: History, *rest: Any) -> Any:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await recreate(five)
            raise TimeoutError
        async for batch in stream(history, *rest):
            yield batch

    monkeypatch.setattr(History, "stream", broken_once)
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        with pytest.raises(SessionNotFound):
            await client.sessions.export("one")
    assert attempts == 2
