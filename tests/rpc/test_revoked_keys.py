"""The revocation of a key ends its open streams, including idle ones."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest

from sessiond.v1.conversation_service_pb2 import SendRequest, WatchRequest
from sessiond.v1.session_service_pb2 import (
    CreateSessionRequest,
    GetSessionRequest,
    ImportMessagesRequest,
    ListSessionsRequest,
)
from sessiond_server.projects import authentication
from sessiond_server.projects.service import Keys, NewKey
from sessiond_server.projects.store import KeyStore
from sessiond_server.providers.settings import ProviderSettings
from sessiond_server.server import Running
from sessiond_server.settings import Settings

from ..support.model_server import ModelServer, Reply
from ..support.wire import Wire, error_of, openai

PATIENCE_S = 60
REFUSED = (grpc.StatusCode.UNAUTHENTICATED, "API_KEY_INVALID")


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with ModelServer(Reply("held back", after=1, then="hold")) as server:
        yield server


@pytest.fixture
def settings(settings: Settings, models: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(authentication, "MIN_CHECK_S", 0.01)
    provider = ProviderSettings(type="openai", base_url=models.openai_url, models=("fake-*",))
    return settings.model_copy(
        update={
            "require_keys": True,
            "key_cache_s": 0.05,
            "providers": {"fake": provider},
            "default_model": "fake-1",
        }
    )


@pytest.fixture
def keys(server: Running) -> Keys:
    return Keys(KeyStore(server.database))


@pytest.fixture
async def key(keys: Keys, wire: Wire) -> NewKey:
    """A key whose project has a session "one"."""
    created = await keys.create_key("blue", create_project=True)
    request = CreateSessionRequest(session={"session_id": "one"})
    await wire.sessions.CreateSession(request, metadata=header(created))
    return created


def header(key: NewKey) -> tuple[tuple[str, str]]:
    return (("authorization", f"Bearer {key.secret}"),)


async def watch(wire: Wire, key: NewKey) -> Any:
    """Return a watch that has delivered its first response and is idle."""
    request = WatchRequest(session_id="one", heartbeat_interval={"seconds": 60})
    opened = wire.conversations.Watch(request, metadata=header(key))
    await anext(aiter(opened))
    return opened


async def error_of_stream(stream: Any) -> tuple[grpc.StatusCode, str]:
    async with asyncio.timeout(PATIENCE_S):
        error = await error_of(stream)
    return error.code, error.reason


async def test_a_silent_watch_ends(wire: Wire, keys: Keys, key: NewKey) -> None:
    watcher = await watch(wire, key)
    await keys.revoke_key(key.key.key_id)
    assert await error_of_stream(watcher) == REFUSED


async def test_a_send_ends_while_the_model_is_silent(wire: Wire, keys: Keys, key: NewKey) -> None:
    request = SendRequest(session_id="one", prompt="Hello")
    send = wire.conversations.Send(request, metadata=header(key))
    await anext(aiter(send))
    await keys.revoke_key(key.key.key_id)
    assert await error_of_stream(send) == REFUSED


async def test_an_import_that_stalls_ends_and_stores_nothing(
    wire: Wire, keys: Keys, key: NewKey
) -> None:
    left = asyncio.Event()

    async def pieces() -> AsyncIterator[ImportMessagesRequest]:
        yield ImportMessagesRequest(session_id="one", messages=[openai("x")])
        await keys.revoke_key(key.key.key_id)
        await left.wait()

    imported = wire.sessions.ImportMessages(pieces(), metadata=header(key))
    try:
        assert await error_of_stream(imported) == REFUSED
    finally:
        left.set()
    other = await keys.create_key("blue")
    session = await wire.sessions.GetSession(
        GetSessionRequest(session_id="one"), metadata=header(other)
    )
    assert session.last_seq == 0


async def test_streams_of_other_keys_stay_open(wire: Wire, keys: Keys, key: NewKey) -> None:
    other = await keys.create_key("blue")
    revoked, kept = await watch(wire, key), await watch(wire, other)
    await keys.revoke_key(key.key.key_id)
    assert await error_of_stream(revoked) == REFUSED
    assert not kept.done()
    await wire.sessions.ListSessions(ListSessionsRequest(), metadata=header(other))
    kept.cancel()
