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

from importlib import import_module
from typing import TYPE_CHECKING

from sessiond import errors
from sessiond._version import __version__
from sessiond.errors import *  # noqa: F403

if TYPE_CHECKING:
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

# The names that are imported only when they are first used, by module. A program uses one of the
# two clients, and the server uses none, so importing everything at once would waste 0.1 s.
_MODULES = {
    "sessiond._async._client": ("AsyncClient",),
    "sessiond._async._pool": ("AsyncSessionPool",),
    "sessiond._async._session": ("AsyncSession",),
    "sessiond._requests.input": ("NewMessage",),
    "sessiond._sync._client": ("Client",),
    "sessiond._sync._pool": ("SessionPool",),
    "sessiond._sync._session": ("Session",),
    "sessiond._types.admin": ("ApiKey", "LimitUsage", "Project", "ProjectLimits", "ProjectUsage"),
    "sessiond._types.asset": ("Asset",),
    "sessiond._types.bookmark": ("Bookmark",),
    "sessiond._types.event": ("Event", "EventData"),
    "sessiond._types.message": ("Message",),
    "sessiond._types.processing": ("FailedMessage", "Lease", "ProcessingCounts"),
    "sessiond._types.session": (
        "CopyResult",
        "DeletedSessions",
        "RewindResult",
        "SessionCopy",
        "SessionInfo",
        "SessionOrigin",
        "StoredRange",
        "TokenCounts",
    ),
    "sessiond._types.task": ("Task",),
    "sessiond._types.transcripts": (
        "BadLine",
        "FailedTranscript",
        "ImportedTranscript",
        "TranscriptImport",
    ),
    "sessiond._types.turn": (
        "FitChange",
        "MessageTurn",
        "SentMessage",
        "Turn",
        "TurnError",
        "TurnPreview",
        "Usage",
    ),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

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

# Type checkers see the imports above, and report names that do not exist.
if not TYPE_CHECKING:

    def __getattr__(name):
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(_MODULE_OF[name]), name)
        globals()[name] = found
        return found

    def __dir__():
        return sorted({*globals(), *__all__})
