"""What is measured, behind one interface. Each subject has a module of its own, so that a process that reads imports no other's packages.

Every one starts from the same dicts, makes its own JSON, and has at most POOL_SIZE database connections.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Protocol, cast

from workload import Message

POOL_SIZE = 16  # sessiond's default, and the same for the peers


class Subject(Protocol):
    """Something that keeps messages of sessions."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def create(self, session_id: str) -> None:
        """Make an empty session, where the subject knows such a thing."""

    async def append(self, session_id: str, message: Message) -> None:
        """Store one message, durably."""

    async def append_batch(self, session_id: str, messages: list[Message]) -> None:
        """Store some messages, all or none, durably."""

    async def load(self, session_id: str, messages: list[Message]) -> None:
        """Store any number of messages, all or none, durably, in the subject's best way for many."""

    async def texts(self, session_id: str) -> list[str]:
        """All messages as JSON text."""

    async def dicts(self, session_id: str) -> list[Message]:
        """All messages as dicts."""

    async def first(self, session_id: str) -> None:
        """Begin to read all messages, and return as soon as the first ones are there."""


KINDS = {
    "sessiond": ("subject_sessiond", "Sessiond"),
    "openai-agents": ("subject_openai_agents", "OpenAIAgents"),
    "floor": ("subject_floor", "Floor"),
    "floor, jsonb": ("subject_floor", "FloorJsonb"),
}


def subject(kind: str, address: str) -> Subject:
    """One of KINDS, not yet opened. address: of the server or the database."""
    module, name = KINDS[kind]
    return cast(Callable[[str], Subject], getattr(import_module(module), name))(address)
