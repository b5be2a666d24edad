"""openai-agents as a subject of the benchmark."""

from typing import cast

from agents import TResponseInputItem
from agents.extensions.memory import SQLAlchemySession
from sqlalchemy.ext.asyncio import create_async_engine
from subjects import POOL_SIZE
from workload import MessageDict


class OpenAIAgents:
    """openai-agents' SQLAlchemySession, in this process, with one engine for all sessions."""

    def __init__(self, url: str) -> None:
        self._engine = create_async_engine(
            url.replace("postgresql://", "postgresql+asyncpg://", 1),
            pool_size=POOL_SIZE,
            max_overflow=0,
        )
        self._sessions: dict[str, SQLAlchemySession] = {}

    async def open(self) -> None:
        await SQLAlchemySession("open", engine=self._engine, create_tables=True).get_items()

    async def close(self) -> None:
        await self._engine.dispose()

    def _session(self, session_id: str) -> SQLAlchemySession:
        if session_id not in self._sessions:
            self._sessions[session_id] = SQLAlchemySession(session_id, engine=self._engine)
        return self._sessions[session_id]

    async def create(self, session_id: str) -> None:
        self._session(session_id)  # the first item creates the row

    async def append(self, session_id: str, message: MessageDict) -> None:
        await self._session(session_id).add_items([cast(TResponseInputItem, message)])

    async def append_batch(self, session_id: str, messages: list[MessageDict]) -> None:
        await self._session(session_id).add_items(cast(list[TResponseInputItem], messages))

    async def load(self, session_id: str, messages: list[MessageDict]) -> None:
        await self.append_batch(session_id, messages)

    async def texts(self, session_id: str) -> list[str]:
        raise NotImplementedError("SQLAlchemySession hands out dicts only")

    async def dicts(self, session_id: str) -> list[MessageDict]:
        return cast(list[MessageDict], await self._session(session_id).get_items())

    async def first(self, session_id: str) -> None:
        await self.dicts(session_id)  # the library returns nothing before it has everything
