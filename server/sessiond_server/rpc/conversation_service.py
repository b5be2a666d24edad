"""ConversationService on the wire."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from sessiond.v1.conversation_service_pb2 import WatchRequest
from sessiond_server.rpc import convert
from sessiond_server.service.keys import Caller
from sessiond_server.service.watching import Asked, Watching

# Method names are those of the protos.
# ruff: noqa: N802


class ConversationServicer:
    """The methods of ConversationService, as calls.Servicer has them."""

    needs_admin = False

    def __init__(self, watching: Watching) -> None:
        self._watching = watching

    async def Watch(self, request: WatchRequest, caller: Caller) -> AsyncGenerator[bytes, None]:
        asked = Asked(
            request.session_id,
            request.after_seq if request.HasField("after_seq") else None,
            convert.milliseconds(request.heartbeat_interval) if request.HasField("heartbeat_interval") else None,
        )
        async with aclosing(self._watching.watch(caller.project_id, asked)) as responses:
            async for response in responses:
                yield response
