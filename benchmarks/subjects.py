"""The common interface of the measured subjects.

Each subject has its own module, so that a process that reads from one subject (reader.py) does not
import the packages of the others. All subjects start from the same dicts, encode their own JSON,
and have at most POOL_SIZE database connections.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Protocol, cast

from workload import MessageDict

POOL_SIZE = 16  # sessiond's default, and the same for the peers


class Subject(Protocol):
    """A store of sessions' messages."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def create(self, session_id: str) -> None:
        """Create an empty session, if the subject has sessions."""

    async def append(self, session_id: str, message: MessageDict) -> None:
        """Store one message, durably."""

    async def append_batch(self, session_id: str, messages: list[MessageDict]) -> None:
        """Store some messages, atomically and durably."""

    async def load(self, session_id: str, messages: list[MessageDict]) -> None:
        """Store any number of messages, atomically and durably, in the subject's fastest way."""

    async def texts(self, session_id: str) -> list[str]:
        """Return all messages as JSON text."""

    async def dicts(self, session_id: str) -> list[MessageDict]:
        """Return all messages as dicts."""

    async def first(self, session_id: str) -> None:
        """Begin to read all messages, and return once the first ones arrive."""


KINDS = {
    "sessiond": ("subject_sessiond", "Sessiond"),
    "openai-agents": ("subject_openai_agents", "OpenAIAgents"),
    "openai adapter": ("subject_adapters", "OpenAIAdapter"),
    "claude adapter": ("subject_adapters", "ClaudeAdapter"),
    "claude reference": ("subject_claude", "ClaudeReference"),
    "floor": ("subject_floor", "Floor"),
    "floor, jsonb": ("subject_floor", "FloorJsonb"),
}


def subject(kind: str, address: str) -> Subject:
    """Create a subject, not opened yet.

    Args:
        kind: one of KINDS.
        address: of the server or the database.
    """
    module, name = KINDS[kind]
    return cast(Callable[[str], Subject], getattr(import_module(module), name))(address)
