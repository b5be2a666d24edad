"""A plain store of the Claude Agent SDK on PostgreSQL, as a subject of the benchmark."""

import json
import uuid
from typing import Any

import asyncpg  # type: ignore[import-untyped]
from subjects import POOL_SIZE
from workload import MessageDict

TIMESTAMP = "2026-11-28T00:00:00.000Z"


def entries_of(messages: list[MessageDict]) -> list[dict[str, Any]]:
    """Return messages as entries of a transcript, each with a uuid of its own."""
    return [
        {
            "type": message["role"],
            "uuid": str(uuid.uuid4()),
            "timestamp": TIMESTAMP,
            "isSidechain": False,
            "cwd": "/home/ada/tea",
            "message": message,
        }
        for message in messages
    ]


class ClaudeReference:
    """The minimum that the SDK requires of a store: entries unique by uuid, and a summary.

    An append is one transaction, which locks the transcript's row and updates its summary. There
    are no tenants, no expiry, no copies and no limits.
    """

    def __init__(self, url: str) -> None:
        from claude_agent_sdk import fold_session_summary

        self._fold = fold_session_summary
        self._url = url
        self._pool: asyncpg.Pool | None = None

    @property
    def _opened(self) -> asyncpg.Pool:
        assert self._pool is not None
        return self._pool

    async def open(self) -> None:
        self._pool = await asyncpg.create_pool(self._url, min_size=POOL_SIZE, max_size=POOL_SIZE)
        await self._opened.execute(
            """
            CREATE TABLE IF NOT EXISTS claude_transcripts (
                id text PRIMARY KEY, summary json, updated_at timestamptz NOT NULL DEFAULT now());
            CREATE TABLE IF NOT EXISTS claude_entries (
                id text, n bigint GENERATED ALWAYS AS IDENTITY, uuid text, entry json NOT NULL,
                PRIMARY KEY (id, n), UNIQUE (id, uuid))
            """
        )

    async def close(self) -> None:
        await self._opened.close()

    async def create(self, session_id: str) -> None:
        """Do nothing: the first entry creates the transcript."""

    async def append(self, session_id: str, message: MessageDict) -> None:
        await self.append_batch(session_id, [message])

    async def append_batch(self, session_id: str, messages: list[MessageDict]) -> None:
        entries = entries_of(messages)
        key: Any = {"project_key": "bench", "session_id": session_id}
        async with self._opened.acquire() as connection, connection.transaction():
            found = await connection.fetchval(
                "INSERT INTO claude_transcripts (id) VALUES ($1) ON CONFLICT (id) "
                "DO UPDATE SET updated_at = now() RETURNING summary",
                session_id,
            )
            await connection.execute(
                "INSERT INTO claude_entries (id, uuid, entry) SELECT $1, uuid, entry "
                "FROM unnest($2::text[], $3::json[]) AS u(uuid, entry) ON CONFLICT DO NOTHING",
                session_id,
                [entry["uuid"] for entry in entries],
                [json.dumps(entry) for entry in entries],
            )
            summary = self._fold(json.loads(found) if found else None, key, entries)
            await connection.execute(
                "UPDATE claude_transcripts SET summary = $2 WHERE id = $1",
                session_id,
                json.dumps(summary),
            )

    async def load(self, session_id: str, messages: list[MessageDict]) -> None:
        await self.append_batch(session_id, messages)

    async def texts(self, session_id: str) -> list[str]:
        raise NotImplementedError("a store hands out dicts only")

    async def dicts(self, session_id: str) -> list[MessageDict]:
        rows = await self._opened.fetch(
            "SELECT entry FROM claude_entries WHERE id = $1 ORDER BY n", session_id
        )
        return [json.loads(row["entry"]) for row in rows]

    async def first(self, session_id: str) -> None:
        await self.dicts(session_id)
