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

from sessiond._async._copilot import AsyncCopilotClient, AsyncCopilotSession
from sessiond._async._copilot_reader import AsyncHistory
from sessiond._copilot import MessageOptions, PingResponse, SessionConfig
from sessiond._copilot_client import CopilotClient
from sessiond._event import Event
from sessiond._info import SessionInfo
from sessiond._message import Message
from sessiond._sync._copilot import SyncCopilotClient, SyncCopilotSession

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
    "SessionInfo",
    "SyncCopilotClient",
    "SyncCopilotSession",
]
