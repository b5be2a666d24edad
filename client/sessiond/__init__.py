"""The Python client of sessiond, the session store for language-model agents.

    from sessiond import Client

    with Client("localhost:50051") as client:
        session = client.get_or_create_session("user-123-chat", model="gpt-5")
        session.store_message({"role": "user", "content": "Hello"})
        for message in session.get_messages():
            print(message.role, message.content)

`AsyncClient` has the same calls as coroutines. `sessiond.errors` lists the exceptions, and
`sessiond.v1` is the generated protobuf code.
"""

from sessiond import errors
from sessiond._async._client import AsyncClient
from sessiond._async._pool import AsyncSessionPool
from sessiond._async._session import AsyncSession
from sessiond._requests.input import NewMessage
from sessiond._sync._client import Client
from sessiond._sync._pool import SessionPool
from sessiond._sync._session import Session
from sessiond._types.admin import ApiKey, LimitUsage, Project, ProjectLimits, ProjectUsage
from sessiond._types.asset import Asset
from sessiond._types.bookmark import Bookmark
from sessiond._types.event import Event, EventData
from sessiond._types.message import Message
from sessiond._types.processing import FailedMessage, Lease, ProcessingCounts
from sessiond._types.session import (
    CopyResult,
    DeletedSessions,
    RewindResult,
    SessionCopy,
    SessionInfo,
    SessionOrigin,
    StoredRange,
    TokenCounts,
)
from sessiond._types.task import Task
from sessiond._types.transcripts import (
    BadLine,
    FailedTranscript,
    ImportedTranscript,
    TranscriptImport,
)
from sessiond._types.turn import (
    FitChange,
    MessageTurn,
    SentMessage,
    Turn,
    TurnError,
    TurnPreview,
    Usage,
)
from sessiond._version import __version__
from sessiond.errors import *  # noqa: F403

__all__ = [
    "ApiKey",
    "Asset",
    "AsyncClient",
    "AsyncSession",
    "AsyncSessionPool",
    "BadLine",
    "Bookmark",
    "Client",
    "CopyResult",
    "DeletedSessions",
    "Event",
    "EventData",
    "FailedMessage",
    "FailedTranscript",
    "FitChange",
    "ImportedTranscript",
    "Lease",
    "LimitUsage",
    "Message",
    "MessageTurn",
    "NewMessage",
    "ProcessingCounts",
    "Project",
    "ProjectLimits",
    "ProjectUsage",
    "RewindResult",
    "SentMessage",
    "Session",
    "SessionCopy",
    "SessionInfo",
    "SessionOrigin",
    "SessionPool",
    "StoredRange",
    "Task",
    "TokenCounts",
    "TranscriptImport",
    "Turn",
    "TurnError",
    "TurnPreview",
    "Usage",
    "__version__",
    "errors",
]
__all__ += errors.__all__
