"""Client streams that are refused: the server reads the rest, up to a limit."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from sessiond.v1.session_service_pb2 import ImportMessagesRequest
from sessiond_server.rpc import bodies
from sessiond_server.rpc.bodies import drain_requests

from ..support.waiting import PATIENCE_S
from ..support.wire import Wire, error_of, openai


class Trickle:
    """A client that sends single bytes without end, each before the idle timeout."""

    def __init__(self) -> None:
        self.sent = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.005)
            self.sent += 1
            yield b"x"


async def test_draining_a_trickling_client_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "DRAIN_TIMEOUT_S", 0.1)
    trickle = Trickle()
    async with asyncio.timeout(PATIENCE_S):
        await drain_requests(aiter(trickle))
    assert trickle.sent


async def test_draining_a_stalled_client_has_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "DRAIN_TIMEOUT_S", 3600)
    monkeypatch.setattr(bodies, "DRAIN_IDLE_S", 0.01)

    async def stalled() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    async with asyncio.timeout(PATIENCE_S):
        await drain_requests(stalled())


async def test_draining_has_a_limit_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "DRAIN_BYTES", 100)
    pieces = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal pieces
        while True:
            pieces += 1
            yield b"x" * 10

    await drain_requests(endless())
    assert pieces == 10


async def test_a_client_that_still_writes_receives_its_error(wire: Wire) -> None:
    async def pieces() -> AsyncIterator[ImportMessagesRequest]:
        for _ in range(200):
            yield ImportMessagesRequest(session_id="nobody", messages=[openai("x" * 10_000)])

    error = await error_of(wire.sessions.ImportMessages(pieces()))
    assert error.reason == "SESSION_NOT_FOUND"
