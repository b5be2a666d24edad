"""Calls of ConversationService that many tests make."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from sessiond.v1 import conversation_service_pb2 as cs
from sessiond.v1.turn_pb2 import Turn
from sessiond_server.server import serving
from sessiond_server.settings import Settings

from ..support.model_server import ModelServer, Reply
from ..support.turns import PATIENCE_S, Sent, sending
from ..support.wire import Wire

IMMEDIATE = cs.SEND_MODE_IMMEDIATE
HOLD = Reply("held back", after=1, then="hold")


@asynccontextmanager
async def connected(settings: Settings, database_url: str) -> AsyncIterator[Wire]:
    """Serve the database, and connect to that server."""
    async with (
        serving(settings, database_url) as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        yield Wire(channel)


async def held(models: ModelServer) -> None:
    """Wait until a model has been called and holds its answer back."""
    assert await asyncio.to_thread(models.wait_until_held)


async def send_held(
    wire: Wire, models: ModelServer, session_id: str = "one", prompt: str = "a", **fields: Any
) -> Sent:
    """Send, and wait until the model holds the rest of its answer back."""
    models.script(HOLD)
    sent = await sending(wire, session_id, prompt, **fields)
    await held(models)
    return sent


async def turn_of(wire: Wire, turn_id: str, session_id: str = "one") -> Turn:
    request = cs.GetTurnRequest(session_id=session_id, turn_id=turn_id)
    return await wire.conversations.GetTurn(request)


async def turns_of(wire: Wire, session_id: str = "one", **fields: Any) -> list[Turn]:
    request = cs.ListTurnsRequest(session_id=session_id, **fields)
    return list((await wire.conversations.ListTurns(request)).turns)


async def abort(wire: Wire, session_id: str = "one", **fields: Any) -> list[str]:
    """Abort turns. Return their ids."""
    answer = await wire.conversations.Abort(cs.AbortRequest(session_id=session_id, **fields))
    return [turn.turn_id for turn in answer.turns]


async def newest(wire: Wire, state: int) -> None:
    """Wait until the newest turn of session "one" is in a state."""
    async with asyncio.timeout(PATIENCE_S):
        while (await turns_of(wire))[0].state != state:
            await asyncio.sleep(0.02)
