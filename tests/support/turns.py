"""Send calls, and the events that they stream."""

import asyncio
import json
from typing import Any

import grpc

from sessiond.v1.conversation_service_pb2 import SendRequest
from sessiond.v1.event_pb2 import Event
from sessiond.v1.turn_pb2 import Turn

from .waiting import PATIENCE_S
from .wire import Wire, WireError, taken_apart


class Sent:
    """A Send call. sending() makes it and reads its first response: the turn and message_id."""

    def __init__(self, wire: Wire, session_id: str, fields: dict[str, Any]) -> None:
        options, timeout_s = fields.pop("options", None), fields.pop("timeout_s", None)
        request = SendRequest(session_id=session_id, **fields)
        if options is not None:
            request.options_json = json.dumps(options)
        self.call = wire.conversations.Send(request, timeout=timeout_s)
        self.turn = Turn()
        self.message_id = ""
        self.ended: Turn | None = None
        self.events: list[Event] = []

    async def read(self) -> bool:
        """Read the next response; return False at the end of the stream."""
        async with asyncio.timeout(PATIENCE_S):
            response = await self.call.read()
        if response is grpc.aio.EOF:
            return False
        self.events += response.events
        if response.HasField("turn"):
            if self.turn.turn_id:
                self.ended = response.turn
            else:
                self.turn, self.message_id = response.turn, response.message_id
        return True

    async def until(self, type_: str) -> Event:
        """Wait for the first event of a type, and return it."""
        while not (found := [event for event in self.events if event.type == type_]):
            assert await self.read(), f"the turn ended without {type_}"
        return found[0]

    async def end(self) -> Turn:
        """Wait for the end of the turn, which must have no error, and return it."""
        while await self.read():
            pass
        assert self.ended
        return self.ended

    async def error(self) -> WireError:
        """Return the error that the call ends with."""
        try:
            await self.end()
        except grpc.aio.AioRpcError as e:
            return taken_apart(e)
        raise AssertionError("the turn was expected to fail")

    @property
    def types(self) -> list[str]:
        """The events' types, with consecutive deltas as one."""
        types: list[str] = []
        for event in self.events:
            if not (types and types[-1] == event.type and event.type.endswith("_delta")):
                types.append(event.type)
        return types

    @property
    def delta_text(self) -> str:
        """The text of all deltas."""
        return "".join(
            event.data["delta_content"]
            for event in self.events
            if event.type == "assistant.message_delta"
        )


async def sending(wire: Wire, session_id: str, prompt: str = "", **fields: Any) -> Sent:
    """Send, and wait until the server has accepted the turn."""
    sent = Sent(wire, session_id, {"prompt": prompt, **fields})
    await sent.read()
    return sent


async def send(wire: Wire, session_id: str, prompt: str = "", **fields: Any) -> Turn:
    """Send, and wait for the end of the turn."""
    return await (await sending(wire, session_id, prompt, **fields)).end()
