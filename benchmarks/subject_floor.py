"""What PostgreSQL asks of anybody, as a subject of the benchmark."""

import json

import asyncpg  # type: ignore[import-untyped]
import orjson
from subjects import POOL_SIZE
from workload import Message

FLOOR_BATCH = 1000  # rows of one unnest statement


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

    @staticmethod
    def _dumped(message: Message) -> str:
        return json.dumps(message, ensure_ascii=False, separators=(",", ":"))

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
        self._read = (
            f"SELECT seq, body, created_at FROM {self._table} WHERE session_id = $1 ORDER BY seq"
        )

    @property
    def _opened(self) -> asyncpg.Pool:
        assert self._pool is not None
        return self._pool

    async def open(self) -> None:
        self._pool = await asyncpg.create_pool(
            self._url, min_size=POOL_SIZE, max_size=POOL_SIZE, connection_class=_Connection
        )
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
        await self._opened.execute(
            self._append, session_id, self._take(session_id, 1) + 1, self._dumped(message)
        )

    async def append_batch(self, session_id: str, messages: list[Message]) -> None:
        before = self._take(session_id, len(messages))
        await self._opened.execute(
            self._batch, session_id, before, [self._dumped(message) for message in messages]
        )

    async def load(self, session_id: str, messages: list[Message]) -> None:
        async with self._opened.acquire() as connection, connection.transaction():
            for start in range(0, len(messages), FLOOR_BATCH):
                texts = [self._dumped(message) for message in messages[start : start + FLOOR_BATCH]]
                await connection.execute(
                    self._batch, session_id, self._take(session_id, len(texts)), texts
                )

    async def copy(self, session_id: str, new_session_id: str) -> None:
        """Row by row."""
        columns = f"INSERT INTO {self._table} (session_id, seq, body, created_at)"
        await self._opened.execute(
            f"{columns} SELECT $2, seq, body, created_at FROM {self._table} WHERE session_id = $1",
            session_id,
            new_session_id,
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
        rows = [(session_id, seq + n, self._dumped(message)) for n, message in enumerate(messages)]
        async with self._opened.acquire() as connection:
            await connection.copy_records_to_table(
                self._table, records=rows, columns=["session_id", "seq", "body"]
            )


class FloorOrjson(Floor):
    """The floor with the JSON library that sessiond's client writes dicts with."""

    @staticmethod
    def _dumped(message: Message) -> str:
        return orjson.dumps(message).decode()
