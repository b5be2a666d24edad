"""Watch calls."""

import asyncio
from typing import Any

import grpc

from sessiond.v1.conversation_service_pb2 import WatchRequest, WatchResponse
from sessiond.v1.event_pb2 import Event

from .waiting import PATIENCE_S
from .wire import Wire, WireError, taken_apart


class Watcher:
    """A Watch call; see `watching`."""

    def __init__(self, wire: Wire, session_id: str, fields: dict[str, Any]) -> None:
        self.call = wire.conversations.Watch(WatchRequest(session_id=session_id, **fields))
        self._events: list[Event] = []

    async def response(self) -> WatchResponse:
        """Return the next response."""
        async with asyncio.timeout(PATIENCE_S):
            response = await self.call.read()
        if response is grpc.aio.EOF:
            await self.call  # raises the error
            raise AssertionError("a watcher ends with an error")
        return response  # type: ignore[no-any-return]

    async def event(self) -> Event:
        """Return the next event."""
        while not self._events:
            self._events += (await self.response()).events
        return self._events.pop(0)

    async def through(self, seq: int) -> list[Event]:
        """Return the events up to a message."""
        events = [await self.event()]
        while events[-1].seq != seq:
            events.append(await self.event())
        return events

    async def error(self) -> WireError:
        """Return the error that ends the call."""
        try:
            while True:
                self._events += (await self.response()).events
        except grpc.aio.AioRpcError as e:
            return taken_apart(e)


async def watching(wire: Wire, session_id: str = "", **fields: Any) -> Watcher:
    """Watch a session, or with "" the project, and wait for the first response."""
    watcher = Watcher(wire, session_id, fields)
    watcher._events += (await watcher.response()).events
    return watcher


def seqs(events: list[Event]) -> list[int]:
    """Return the seqs of messages, without other events such as a late session.created."""
    return [event.seq for event in events if event.seq]
