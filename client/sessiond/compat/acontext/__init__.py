"""The session calls of Acontext's Python SDK, on top of sessiond's client.

    from sessiond.compat.acontext import AcontextClient

    with AcontextClient() as client:
        session = client.sessions.create(user="ada")
        message = {"role": "user", "content": "Hello"}
        client.sessions.store_message(session.id, blob=message, format="openai")
        result = client.sessions.copy(session_id=session.id)

Only calls that sessiond supports exist: others raise AttributeError, and unsupported arguments
raise TypeError. docs/migrating-from-acontext.md describes the differences.
"""

from sessiond._types.session import CopyResult, TokenCounts
from sessiond.compat.acontext._async import AsyncAcontextClient
from sessiond.compat.acontext._sync import AcontextClient
from sessiond.compat.acontext._types import (
    AcontextError,
    APIError,
    GetMessagesOutput,
    GetTasksOutput,
    ListSessionsOutput,
    Message,
    Session,
    Task,
    TaskData,
    TransportError,
)

AcontextAsyncClient = AsyncAcontextClient
"""The SDK's name for AsyncAcontextClient."""

__all__ = [
    "APIError",
    "AcontextAsyncClient",
    "AcontextClient",
    "AcontextError",
    "AsyncAcontextClient",
    "CopyResult",
    "GetMessagesOutput",
    "GetTasksOutput",
    "ListSessionsOutput",
    "Message",
    "Session",
    "Task",
    "TaskData",
    "TokenCounts",
    "TransportError",
]
