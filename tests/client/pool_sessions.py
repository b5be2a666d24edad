"""The sessions of a fake server, for tests of pools."""

import asyncio
from typing import Any

import grpc

from sessiond.v1 import session_pb2
from sessiond.v1.session_service_pb2 import (
    CopySessionResponse,
    DeleteSessionResponse,
    ImportMessagesResponse,
)


class PoolSessions:
    """The sessions of the fake server."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.there: dict[str, session_pb2.Session] = {}
        self.copies: list[str] = []
        self.deleted: list[str] = []
        self.hold: asyncio.Event | None = None
        """If set, copies wait for this event."""
        self.hold_deletions: asyncio.Event | None = None
        server.on("CreateSession", self._create)
        server.on("GetSession", self._get)
        server.on("CopySession", self._copy)
        server.on("DeleteSession", self._delete)
        server.on("UpdateSession", self._update)
        server.on("DestroySession", self._get)
        server.on("ImportMessages", ImportMessagesResponse(first_seq=1, last_seq=1))

    def gone(self) -> Any:
        return self.server.abort(grpc.StatusCode.NOT_FOUND, "no", reason="SESSION_NOT_FOUND")

    async def _create(self, request: Any, context: Any) -> session_pb2.Session:
        self.there[request.session.session_id] = request.session
        return request.session

    async def _get(self, request: Any, context: Any) -> session_pb2.Session:
        if request.session_id not in self.there:
            await self.gone().raise_in(context)
        return self.there[request.session_id]

    async def _copy(self, request: Any, context: Any) -> CopySessionResponse:
        await self._get(request, context)
        copy = session_pb2.Session(session_id=request.new_session_id, model=request.model)
        copy.idle_ttl.CopyFrom(request.idle_ttl)
        self.there[copy.session_id] = copy
        self.copies.append(copy.session_id)
        if self.hold:
            await self.hold.wait()
        return CopySessionResponse(session=copy)

    async def _delete(self, request: Any, context: Any) -> DeleteSessionResponse:
        if self.hold_deletions:
            await self.hold_deletions.wait()
        self.there.pop(request.session_id, None)
        self.deleted.append(request.session_id)
        return DeleteSessionResponse()

    async def _update(self, request: Any, context: Any) -> session_pb2.Session:
        return self.there[request.session.session_id]
