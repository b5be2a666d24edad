"""The protocol without the client: short names for raw calls, and errors with their details."""

import json
from collections.abc import AsyncIterable, Awaitable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from sessiond.v1.admin_service_pb2_grpc import AdminServiceStub
from sessiond.v1.asset_service_pb2_grpc import AssetServiceStub
from sessiond.v1.bookmark_service_pb2_grpc import BookmarkServiceStub
from sessiond.v1.conversation_service_pb2_grpc import ConversationServiceStub
from sessiond.v1.message_pb2 import FORMAT_OPENAI, Message
from sessiond.v1.processing_service_pb2_grpc import ProcessingServiceStub
from sessiond.v1.rewind_pb2 import RewindSessionRequest, RewindSessionResponse
from sessiond.v1.session_pb2 import Session
from sessiond.v1.session_service_pb2 import (
    BatchStoreMessagesRequest,
    BatchStoreMessagesResult,
    CopySessionRequest,
    CopySessionResponse,
    CreateSessionRequest,
    DeleteSessionRequest,
    DestroySessionRequest,
    GetMessageRequest,
    GetMessagesRequest,
    GetMessagesResponse,
    GetSessionRequest,
    ImportMessagesRequest,
    ListSessionsRequest,
    ResumeSessionRequest,
    SessionFilter,
    StoreMessagesRequest,
    StoreMessagesResponse,
)
from sessiond.v1.session_service_pb2_grpc import SessionServiceStub
from sessiond.v1.task_service_pb2_grpc import TaskServiceStub


@dataclass(frozen=True)
class WireError:
    """An error as received, with its details decoded."""

    code: grpc.StatusCode
    text: str
    reason: str
    metadata: dict[str, str]
    fields: dict[str, str]
    retry_s: float | None

    @property
    def message(self) -> str:
        """The text without the reason at its beginning."""
        return self.text.removeprefix(f"{self.reason}: ")


def openai(content: str, role: str = "user") -> Message:
    """Return a message to store."""
    return Message(format=FORMAT_OPENAI, json=json.dumps({"role": role, "content": content}))


def pictures(*asset_ids: str, role: str = "user") -> Message:
    """A message with pictures, each an asset."""
    parts = [
        {"type": "image_url", "image_url": {"url": f"sessiond-asset:{asset_id}"}}
        for asset_id in asset_ids
    ]
    return Message(format=FORMAT_OPENAI, json=json.dumps({"role": role, "content": parts}))


async def error_of(call: Awaitable[Any] | AsyncIterable[Any]) -> WireError:
    """Return the error that a call ends with. Fails the test if there is none."""
    error = await end_of(call)
    assert error, "the call was expected to fail"
    return error


async def end_of(call: Awaitable[Any] | AsyncIterable[Any]) -> WireError | None:
    """Return the error that a call ends with; None if it succeeds."""
    try:
        if isinstance(call, AsyncIterable):
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as e:
        return taken_apart(e)
    return None


def taken_apart(error: grpc.aio.AioRpcError) -> WireError:
    status, info, bad, retry = Status(), ErrorInfo(), BadRequest(), RetryInfo()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status.ParseFromString(value)
    for detail in status.details:
        for message in (info, bad, retry):
            if detail.Is(message.DESCRIPTOR):
                detail.Unpack(message)
    if status.code:
        assert status.code == error.code().value[0]
        assert status.message == error.details()
    return WireError(
        error.code(),
        error.details() or "",
        info.reason,
        dict(info.metadata),
        {violation.field: violation.description for violation in bad.field_violations},
        retry.retry_delay.ToMilliseconds() / 1000 if retry.HasField("retry_delay") else None,
    )


def error_in(result: BatchStoreMessagesResult) -> WireError:
    """Return the error of one request of a batch."""
    encoded = result.error.SerializeToString()
    [code] = [code for code in grpc.StatusCode if code.value[0] == result.error.code]
    trailers = grpc.aio.Metadata(("grpc-status-details-bin", encoded))
    return taken_apart(
        grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, result.error.message)
    )


def session_filter(**fields: Any) -> SessionFilter:
    """Return a filter of plain values: Structs as dicts, times as datetimes."""
    chosen = SessionFilter()
    for name, value in fields.items():
        if isinstance(value, dict):
            getattr(chosen, name).update(value)
        elif isinstance(value, datetime):
            getattr(chosen, name).FromDatetime(value)
        else:
            setattr(chosen, name, value)
    return chosen


class Wire:
    """Raw calls by short names."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.sessions: Any = SessionServiceStub(channel)
        self.tasks: Any = TaskServiceStub(channel)
        self.bookmarks: Any = BookmarkServiceStub(channel)
        self.processing: Any = ProcessingServiceStub(channel)
        self.assets: Any = AssetServiceStub(channel)
        self.conversations: Any = ConversationServiceStub(channel)
        self.admin: Any = AdminServiceStub(channel)

    def method(self, name: str) -> Any:
        """Return the stub's method of an RPC; names are unique among the services."""
        stubs = (
            self.sessions,
            self.tasks,
            self.bookmarks,
            self.processing,
            self.assets,
            self.conversations,
            self.admin,
        )
        return next(getattr(stub, name) for stub in stubs if hasattr(stub, name))

    async def create(self, session_id: str = "", **fields: Any) -> Session:
        request = CreateSessionRequest(
            session=Session(session_id=session_id),
            get_or_create=fields.pop("get_or_create", False),
            request_id=fields.pop("request_id", ""),
        )
        for name in ("metadata", "config"):
            if name in fields:
                getattr(request.session, name).update(fields.pop(name))
        if "idle_ttl_s" in fields:
            request.session.idle_ttl.FromMilliseconds(int(fields.pop("idle_ttl_s") * 1000))
        for name, value in fields.items():
            setattr(request.session, name, value)
        return await self.sessions.CreateSession(request)

    async def get(self, session_id: str) -> Session:
        return await self.sessions.GetSession(GetSessionRequest(session_id=session_id))

    async def destroy(self, session_id: str) -> Session:
        return await self.sessions.DestroySession(DestroySessionRequest(session_id=session_id))

    async def resume(self, session_id: str) -> Session:
        return await self.sessions.ResumeSession(ResumeSessionRequest(session_id=session_id))

    async def delete(self, session_id: str, **fields: Any) -> None:
        await self.sessions.DeleteSession(DeleteSessionRequest(session_id=session_id, **fields))

    async def store(
        self, session_id: str, *messages: Message | str, **fields: Any
    ) -> StoreMessagesResponse:
        encoded = [openai(message) if isinstance(message, str) else message for message in messages]
        return await self.sessions.StoreMessages(
            StoreMessagesRequest(session_id=session_id, messages=encoded, **fields)
        )

    async def store_batch(
        self, *requests: StoreMessagesRequest, options: Mapping[str, Any] | None = None
    ) -> list[StoreMessagesResponse | WireError]:
        """Send many stores in one call; return the response or error of each."""
        ends: dict[int, StoreMessagesResponse | WireError] = {}
        stream = self.sessions.BatchStoreMessages(
            BatchStoreMessagesRequest(requests=requests), **(options or {})
        )
        async for response in stream:
            for result in response.results:
                assert result.index not in ends
                ends[result.index] = (
                    result.response if result.HasField("response") else error_in(result)
                )
        assert len(ends) == len(requests)
        return [ends[i] for i in range(len(requests))]

    async def import_(self, session_id: str, pieces: Iterable[list[Message]], **fields: Any) -> Any:
        async def requests() -> Any:
            first = True
            for piece in pieces:
                yield ImportMessagesRequest(
                    session_id=session_id if first else "",
                    messages=piece,
                    **(fields if first else {}),
                )
                first = False

        return await self.sessions.ImportMessages(requests())

    async def batches(self, session_id: str, **fields: Any) -> list[GetMessagesResponse]:
        call = self.sessions.GetMessages(GetMessagesRequest(session_id=session_id, **fields))
        return [batch async for batch in call]

    async def read(self, session_id: str, **fields: Any) -> list[Message]:
        return [
            message
            for batch in await self.batches(session_id, **fields)
            for message in batch.messages
        ]

    async def texts(self, session_id: str, **fields: Any) -> list[str]:
        """Return the contents of OpenAI messages."""
        return [
            json.loads(message.json)["content"] for message in await self.read(session_id, **fields)
        ]

    async def copy(self, source: str, new: str = "", **fields: Any) -> CopySessionResponse:
        return await self.sessions.CopySession(
            CopySessionRequest(session_id=source, new_session_id=new, **fields)
        )

    async def rewind(self, session_id: str, *appended: str, **fields: Any) -> RewindSessionResponse:
        return await self.sessions.RewindSession(
            RewindSessionRequest(
                session_id=session_id, messages=[openai(text) for text in appended], **fields
            )
        )

    async def message(self, session_id: str, seq: int = 0, **fields: Any) -> Message:
        return await self.sessions.GetMessage(
            GetMessageRequest(session_id=session_id, seq=seq, **fields)
        )

    async def list(self, **fields: Any) -> list[Session]:
        """Return the sessions of all pages.

        Args:
            **fields: order, page_size, and fields of the filter.
        """
        paging = {name: fields.pop(name) for name in ("order", "page_size") if name in fields}
        request = ListSessionsRequest(filter=session_filter(**fields), **paging)
        sessions: list[Session] = []
        while True:
            page = await self.sessions.ListSessions(request)
            sessions += page.sessions
            if not page.next_page_token:
                return sessions
            request.page_token = page.next_page_token
