"""The session calls of the GitHub Copilot SDK for Python, over sessiond's client: sessions are on the server, and so are the models.

    from sessiond.compat.copilot import CopilotClient

    async with CopilotClient() as client:
        session = await client.create_session({"session_id": "user-123", "model": "gpt-5"})
        answer = await session.send_and_wait({"prompt": "Hello"})
        print(answer.data.content)
        await session.destroy()

What the SDK's versions spell differently is taken in every spelling: dicts, SessionConfig and MessageOptions, keywords; destroy and
disconnect, get_messages and get_events. CopilotClient is async within an event loop and sync elsewhere, decided by its first call;
AsyncCopilotClient and SyncCopilotClient are only one. Fields without a meaning here are ignored where nobody would notice, and
raise TypeError where the conversation would be another one: SessionConfig names them. There are no tools.
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
