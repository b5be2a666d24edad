"""The session calls of the GitHub Copilot SDK for Python, on top of sessiond's client.

Sessions and models are on the server:

    from sessiond.compat.copilot import CopilotClient

    async with CopilotClient() as client:
        session = await client.create_session({"session_id": "user-123", "model": "gpt-5"})
        answer = await session.send_and_wait({"prompt": "Hello"})
        print(answer.data.content)
        await session.destroy()

All spellings of the SDK's versions work: dicts, SessionConfig and MessageOptions, keywords; destroy
and disconnect, get_messages and get_events. The first call of a CopilotClient decides whether it is
async (inside an event loop) or sync (elsewhere). AsyncCopilotClient is always async, and
SyncCopilotClient is always sync. SessionConfig lists the fields that are ignored. Fields that would
change the conversation, such as tools, raise TypeError.
"""

from sessiond._types.event import Event
from sessiond._types.message import Message
from sessiond.compat.copilot._async import AsyncCopilotClient, AsyncCopilotSession
from sessiond.compat.copilot._async_history import AsyncHistory
from sessiond.compat.copilot._client import CopilotClient
from sessiond.compat.copilot._options import (
    MessageOptions,
    PingResponse,
    SessionConfig,
    SessionMetadata,
)
from sessiond.compat.copilot._sync import SyncCopilotClient, SyncCopilotSession

__all__ = [
    "AsyncCopilotClient",
    "AsyncCopilotSession",
    "AsyncHistory",
    "CopilotClient",
    "Event",
    "Message",
    "MessageOptions",
    "PingResponse",
    "SessionConfig",
    "SessionMetadata",
    "SyncCopilotClient",
    "SyncCopilotSession",
]
