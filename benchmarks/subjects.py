"""The three subjects behind one interface.

Every one starts from the same dicts and makes its own JSON with the standard library, and has at most POOL_SIZE database connections.
"""

import json
from collections.abc import Iterable
from typing import Any, Protocol, cast

import asyncpg  # type: ignore[import-untyped]
from agents import TResponseInputItem
from agents.extensions.memory import SQLAlchemySession
from sqlalchemy.ext.asyncio import create_async_engine
from workload import Message

from sessiond import AsyncClient

POOL_SIZE = 16  # sessiond's default, and the same for the peers
FLOOR_BATCH = 1000  # rows of one unnest statement


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


class Sessiond:
    """sessiond, through its Python client and gRPC."""

    def __init__(self, target: str) -> None:
        self._client = AsyncClient(target)

    async def open(self) -> None:
        await self._client.start()

    async def close(self) -> None:
        await self._client.stop()

    async def create(self, session_id: str) -> None:
        await self._client.create_session(session_id=session_id)

    async def append(self, session_id: str, message: Message) -> None:
        await self._client.sessions.store_message(session_id=session_id, blob=message, format="openai")

    async def append_batch(self, session_id: str, messages: list[Message]) -> None:
        await self._client.sessions.store_messages(session_id=session_id, messages=messages, format="openai")

    async def load(self, session_id: str, messages: Iterable[Message]) -> None:
        await self._client.sessions.import_messages(session_id=session_id, messages=messages, format="openai")

    async def copy(self, session_id: str) -> str:
        """Answers the new session's id."""
        return (await self._client.sessions.copy(session_id=session_id)).new_session_id

    async def texts(self, session_id: str) -> list[str]:
        return [message.json async for message in self._client.sessions.get_messages(session_id=session_id)]

    async def dicts(self, session_id: str) -> list[Message]:
        return [message.blob async for message in self._client.sessions.get_messages(session_id=session_id)]

    async def first(self, session_id: str) -> None:
        reading = aiter(self._client.sessions.get_messages(session_id=session_id))
        await anext(reading)
        await cast(Any, reading).aclose()


class OpenAIAgents:
    """openai-agents' SQLAlchemySession, in this process, all sessions on one engine."""

    def __init__(self, url: str) -> None:
        self._engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://", 1), pool_size=POOL_SIZE, max_overflow=0)
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
        self._session(session_id)  # the row comes with the first item

    async def append(self, session_id: str, message: Message) -> None:
        await self._session(session_id).add_items([cast(TResponseInputItem, message)])

    async def append_batch(self, session_id: str, messages: list[Message]) -> None:
        await self._session(session_id).add_items(cast(list[TResponseInputItem], messages))

    async def load(self, session_id: str, messages: list[Message]) -> None:
        await self.append_batch(session_id, messages)

    async def texts(self, session_id: str) -> list[str]:
        raise NotImplementedError("SQLAlchemySession hands out dicts only")

    async def dicts(self, session_id: str) -> list[Message]:
        return cast(list[Message], await self._session(session_id).get_items())

    async def first(self, session_id: str) -> None:
        await self.dicts(session_id)  # nothing is handed out before everything is there


class _Connection(asyncpg.Connection):  # type: ignore[misc]
    """A connection that goes back to its pool without asyncpg's reset, which is a round trip of its own."""

    def get_reset_query(self) -> str:
        return ""


class Floor:
    """The least that PostgreSQL asks of anybody: one table, asyncpg, one prepared statement for each kind of call.

    It leaves out what a session store has to do: the caller counts the seqs (two writers to one session would collide), nothing is checked,
    no session exists, nothing expires, no call can be repeated safely.
    """

    BODY_TYPE = "json"  # keeps the text as it came, as sessiond does

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool: asyncpg.Pool | None = None
        self._last_seq: dict[str, int] = {}
        self._table = f"messages_{self.BODY_TYPE}"
        self._create = f"""
            CREATE TABLE IF NOT EXISTS {self._table} (
                session_id text, seq bigint, body {self.BODY_TYPE} NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
                PRIMARY KEY (session_id, seq)
            )"""
        self._append = f"INSERT INTO {self._table} (session_id, seq, body) VALUES ($1, $2, $3)"
        self._batch = f"""
            INSERT INTO {self._table} (session_id, seq, body)
            SELECT $1, $2 + n, body FROM unnest($3::{self.BODY_TYPE}[]) WITH ORDINALITY AS u(body, n)"""
        self._read = f"SELECT seq, body, created_at FROM {self._table} WHERE session_id = $1 ORDER BY seq"

    @property
    def _opened(self) -> asyncpg.Pool:
        assert self._pool is not None
        return self._pool

    async def open(self) -> None:
        self._pool = await asyncpg.create_pool(self._url, min_size=POOL_SIZE, max_size=POOL_SIZE, connection_class=_Connection)
        await self._opened.execute(self._create)

    async def close(self) -> None:
        await self._opened.close()

    def _take(self, session_id: str, count: int) -> int:
        """The seq before those of the next `count` messages."""
        before = self._last_seq.get(session_id, 0)
        self._last_seq[session_id] = before + count
        return before

    async def create(self, session_id: str) -> None:
        self._last_seq[session_id] = 0

    async def append(self, session_id: str, message: Message) -> None:
        await self._opened.execute(self._append, session_id, self._take(session_id, 1) + 1, _dumped(message))

    async def append_batch(self, session_id: str, messages: list[Message]) -> None:
        before = self._take(session_id, len(messages))
        await self._opened.execute(self._batch, session_id, before, [_dumped(message) for message in messages])

    async def load(self, session_id: str, messages: list[Message]) -> None:
        async with self._opened.acquire() as connection, connection.transaction():
            for start in range(0, len(messages), FLOOR_BATCH):
                texts = [_dumped(message) for message in messages[start : start + FLOOR_BATCH]]
                await connection.execute(self._batch, session_id, self._take(session_id, len(texts)), texts)

    async def copy(self, session_id: str, new_session_id: str) -> None:
        """Row by row."""
        columns = f"INSERT INTO {self._table} (session_id, seq, body, created_at)"
        await self._opened.execute(
            f"{columns} SELECT $2, seq, body, created_at FROM {self._table} WHERE session_id = $1", session_id, new_session_id
        )

    async def texts(self, session_id: str) -> list[str]:
        return [row["body"] for row in await self._opened.fetch(self._read, session_id)]

    async def dicts(self, session_id: str) -> list[Message]:
        return [json.loads(row["body"]) for row in await self._opened.fetch(self._read, session_id)]

    async def first(self, session_id: str) -> None:
        await self._opened.fetch(self._read, session_id)


class FloorJsonb(Floor):
    """The floor with parsed bodies: what many would choose, though it loses spacing, key order and number spelling."""

    BODY_TYPE = "jsonb"


class FloorCopy(Floor):
    """The floor, loading by COPY."""

    async def load(self, session_id: str, messages: list[Message]) -> None:
        seq = self._take(session_id, len(messages)) + 1
        rows = [(session_id, seq + n, _dumped(message)) for n, message in enumerate(messages)]
        async with self._opened.acquire() as connection:
            await connection.copy_records_to_table(self._table, records=rows, columns=["session_id", "seq", "body"])


def _dumped(message: Message) -> str:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))
