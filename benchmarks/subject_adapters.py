"""sessiond's adapters for agent frameworks as subjects of the benchmark."""

from typing import Any, cast

from subject_claude import entries_of
from workload import MessageDict


class OpenAIAdapter:
    """SessiondSession, in the place of openai-agents' SQLAlchemySession."""

    def __init__(self, target: str) -> None:
        # Imported here, because a reading process has the packages of only one framework.
        from sessiond.adapters.openai_agents import SessiondSession

        self._make = lambda session_id: SessiondSession(session_id, target=target)
        self._sessions: dict[str, Any] = {}

    async def open(self) -> None:
        await self._session("open").get_items()

    async def close(self) -> None:
        self._sessions.clear()

    def _session(self, session_id: str) -> Any:
        if session_id not in self._sessions:
            self._sessions[session_id] = self._make(f"adapter-{session_id}")
        return self._sessions[session_id]

    async def create(self, session_id: str) -> None:
        self._session(session_id)  # the first item creates the session

    async def append(self, session_id: str, message: MessageDict) -> None:
        await self._session(session_id).add_items([message])

    async def append_batch(self, session_id: str, messages: list[MessageDict]) -> None:
        await self._session(session_id).add_items(messages)

    async def load(self, session_id: str, messages: list[MessageDict]) -> None:
        await self.append_batch(session_id, messages)

    async def texts(self, session_id: str) -> list[str]:
        raise NotImplementedError("a session hands out dicts only")

    async def dicts(self, session_id: str) -> list[MessageDict]:
        return cast(list[MessageDict], await self._session(session_id).get_items())

    async def first(self, session_id: str) -> None:
        await self.dicts(session_id)  # the adapter returns nothing before it has read everything


class ClaudeAdapter:
    """SessiondSessionStore, with a transcript for each session."""

    def __init__(self, target: str) -> None:
        from sessiond.adapters.claude_agent_sdk import SessiondSessionStore

        self._store = SessiondSessionStore(target=target, namespace="bench")

    async def open(self) -> None:
        await self._store.list_sessions("bench")

    async def close(self) -> None:
        """Do nothing: the connection ends with the process."""

    async def create(self, session_id: str) -> None:
        """Do nothing: the first entry creates the session."""

    async def append(self, session_id: str, message: MessageDict) -> None:
        await self.append_batch(session_id, [message])

    async def append_batch(self, session_id: str, messages: list[MessageDict]) -> None:
        await self._store.append(
            {"project_key": "bench", "session_id": session_id}, cast(Any, entries_of(messages))
        )

    async def load(self, session_id: str, messages: list[MessageDict]) -> None:
        await self.append_batch(session_id, messages)

    async def texts(self, session_id: str) -> list[str]:
        raise NotImplementedError("a store hands out dicts only")

    async def dicts(self, session_id: str) -> list[MessageDict]:
        entries = await self._store.load({"project_key": "bench", "session_id": session_id})
        return cast(list[MessageDict], entries)

    async def first(self, session_id: str) -> None:
        await self.dicts(session_id)
