"""sessiond as a subject of the benchmark."""

from collections.abc import Iterable
from typing import Any, cast

from workload import MessageDict

from sessiond import AsyncClient


class Sessiond:
    """sessiond, through gRPC and its Python client."""

    def __init__(self, target: str) -> None:
        self._client = AsyncClient(target)

    async def open(self) -> None:
        await self._client.start()

    async def close(self) -> None:
        await self._client.stop()

    async def create(self, session_id: str) -> None:
        await self._client.create_session(session_id=session_id)

    async def append(self, session_id: str, message: MessageDict) -> None:
        await self._client.sessions.store_message(
            session_id=session_id, blob=message, format="openai"
        )

    async def append_named(self, session_id: str, message: MessageDict, message_id: str) -> None:
        """Store one message that has a message_id."""
        await self._client.sessions.store_message(
            session_id=session_id, blob=message, format="openai", message_id=message_id
        )

    async def append_batch(self, session_id: str, messages: list[MessageDict]) -> None:
        await self._client.sessions.store_messages(
            session_id=session_id, messages=messages, format="openai"
        )

    async def load(self, session_id: str, messages: Iterable[MessageDict]) -> None:
        await self._client.sessions.import_messages(
            session_id=session_id, messages=messages, format="openai"
        )

    async def copy(self, session_id: str) -> str:
        """Copy a session. Return the new session's id."""
        return (await self._client.sessions.copy(session_id=session_id)).new_session_id

    async def rewind(self, session_id: str) -> None:
        """Rewind a session by its newest message."""
        await self._client.sessions.rewind(session_id=session_id, drop_last=1)

    async def texts(self, session_id: str) -> list[str]:
        return [
            message.json
            async for message in self._client.sessions.get_messages(session_id=session_id)
        ]

    async def branch(self, session_id: str) -> list[str]:
        """Read the branch of the newest message."""
        sessions = self._client.sessions
        last_seq = (await sessions.get(session_id)).last_seq
        return [
            message.json
            async for message in sessions.get_messages(session_id=session_id, branch_of=last_seq)
        ]

    async def fork(self, session_id: str, message: MessageDict, parent_seq: int) -> None:
        """Append a message that follows an earlier one."""
        await self._client.sessions.store_message(
            session_id=session_id, blob=message, format="openai", parent_seq=parent_seq
        )

    async def dicts(self, session_id: str) -> list[MessageDict]:
        return [
            message.blob
            async for message in self._client.sessions.get_messages(session_id=session_id)
        ]

    async def first(self, session_id: str) -> None:
        reading = aiter(self._client.sessions.get_messages(session_id=session_id))
        await anext(reading)
        await cast(Any, reading).aclose()
