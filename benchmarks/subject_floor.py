"""The floor: the minimal use of PostgreSQL, as a subject of the benchmark."""

import json

import asyncpg  # type: ignore[import-untyped]
import orjson
from subjects import POOL_SIZE
from workload import MessageDict

FLOOR_BATCH = 1000  # rows of one unnest statement


class _Connection(asyncpg.Connection):  # type: ignore[misc]
    """A connection that asyncpg does not reset for the pool. A reset costs a round trip."""

    def get_reset_query(self) -> str:
        return ""


class Floor:
    """The minimal use of PostgreSQL: one table, asyncpg, one prepared statement per kind of call.

    It omits the work of a session store: the caller counts the seqs, so two writers to one session
    would collide; nothing is validated, sessions do not exist, nothing expires, and no call is safe
    to retry.
    """

    BODY_TYPE = "json"  # stores the text unchanged, as sessiond does

    @staticmethod
    def _dumped(message: MessageDict) -> str:
        return json.dumps(message, ensure_ascii=False, separators=(",", ":"))

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool: asyncpg.Pool | None = None
        self._last_seq: dict[str, int] = {}
        self._table = f"messages_{self.BODY_TYPE}"
        self._create = f"""
            CREATE TABLE IF NOT EXISTS {self._table} (
                session_id text, seq bigint, body {self.BODY_TYPE} NOT NULL,
                created_at timestamptz NOT NULL DEFAULT now(),
                PRIMARY KEY (session_id, seq)
            )"""
        self._append = f"INSERT INTO {self._table} (session_id, seq, body) VALUES ($1, $2, $3)"
        self._batch = f"""
            INSERT INTO {self._table} (session_id, seq, body)
            SELECT $1, $2 + n, body
            FROM unnest($3::{self.BODY_TYPE}[]) WITH ORDINALITY AS u(body, n)"""
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

    def _reserve(self, session_id: str, count: int) -> int:
        """Reserve `count` seqs. Return the seq before the first of them."""
        before = self._last_seq.get(session_id, 0)
        self._last_seq[session_id] = before + count
        return before

    async def create(self, session_id: str) -> None:
        self._last_seq[session_id] = 0

    async def append(self, session_id: str, message: MessageDict) -> None:
        await self._opened.execute(
            self._append, session_id, self._reserve(session_id, 1) + 1, self._dumped(message)
        )

    async def append_batch(self, session_id: str, messages: list[MessageDict]) -> None:
        before = self._reserve(session_id, len(messages))
        await self._opened.execute(
            self._batch, session_id, before, [self._dumped(message) for message in messages]
        )

    async def load(self, session_id: str, messages: list[MessageDict]) -> None:
        async with self._opened.acquire() as connection, connection.transaction():
            for start in range(0, len(messages), FLOOR_BATCH):
                texts = [self._dumped(message) for message in messages[start : start + FLOOR_BATCH]]
                await connection.execute(
                    self._batch, session_id, self._reserve(session_id, len(texts)), texts
                )

    async def copy(self, session_id: str, new_session_id: str) -> None:
        """Copy the session's rows."""
        columns = f"INSERT INTO {self._table} (session_id, seq, body, created_at)"
        await self._opened.execute(
            f"{columns} SELECT $2, seq, body, created_at FROM {self._table} WHERE session_id = $1",
            session_id,
            new_session_id,
        )

    async def texts(self, session_id: str) -> list[str]:
        return [row["body"] for row in await self._opened.fetch(self._read, session_id)]

    async def dicts(self, session_id: str) -> list[MessageDict]:
        return [json.loads(row["body"]) for row in await self._opened.fetch(self._read, session_id)]

    async def first(self, session_id: str) -> None:
        await self._opened.fetch(self._read, session_id)


class FloorJsonb(Floor):
    """The floor with jsonb, the common choice. jsonb loses spacing, key order and number format."""

    BODY_TYPE = "jsonb"


class FloorCopy(Floor):
    """The floor, except that it loads messages with COPY."""

    async def load(self, session_id: str, messages: list[MessageDict]) -> None:
        seq = self._reserve(session_id, len(messages)) + 1
        rows = [(session_id, seq + n, self._dumped(message)) for n, message in enumerate(messages)]
        async with self._opened.acquire() as connection:
            await connection.copy_records_to_table(
                self._table, records=rows, columns=["session_id", "seq", "body"]
            )


class FloorOrjson(Floor):
    """The floor with orjson, the JSON library of sessiond's client."""

    @staticmethod
    def _dumped(message: MessageDict) -> str:
        return orjson.dumps(message).decode()
