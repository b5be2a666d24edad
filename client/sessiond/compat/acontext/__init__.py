"""The session calls of Acontext's Python SDK, over sessiond's client.

    from sessiond.compat.acontext import AcontextClient

    with AcontextClient() as client:
        session = client.sessions.create(user="ada")
        client.sessions.store_message(session.id, blob={"role": "user", "content": "Hello"}, format="openai")
        result = client.sessions.copy(session_id=session.id)

Only what sessiond does as well is here: another call is an AttributeError, and another argument a TypeError.
docs/migrating-from-acontext.md says what differs.
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
"""The SDK's own name of the same class."""

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
