"""Statements that look for damage: gaps, dangling references, lost rows."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from uuid import UUID

from sessiond_server.db.message_log import MESSAGE_LOG
from sessiond_server.db.pool import Database
from sessiond_server.integrity.store.faults import FAULTS, IN_BATCH, Fault

_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"

_BATCH = f"""
SELECT key, project_id, session_id, log, {MESSAGE_LOG} AS message_log, last_seq, base_seq,
    content_bytes, running_turn
FROM sessions WHERE key > %(after)s ORDER BY key LIMIT %(batch)s"""

# The ranges that a session reads: its segments, and its own messages above base_seq.
_RANGES = f"""
WITH ranges AS (
    SELECT key, first_seq, last_seq, src_key, src_log FROM segments WHERE {IN_BATCH}
    UNION ALL
    SELECT key, base_seq + 1, last_seq, key, {MESSAGE_LOG} FROM sessions
    WHERE {IN_BATCH} AND last_seq > base_seq
)
SELECT r.key, r.first_seq, r.last_seq, found.messages, found.content_bytes, found.first, found.last
FROM ranges AS r, LATERAL (
    SELECT count(*) AS messages, COALESCE(sum(m.content_bytes), 0)::bigint AS content_bytes,
        min(m.seq) AS first, max(m.seq) AS last
    FROM messages AS m
    WHERE m.key = r.src_key AND m.log = r.src_log AND m.seq BETWEEN r.first_seq AND r.last_seq
) AS found
ORDER BY r.key, r.first_seq"""

_REFERENCES = """
SELECT r.key, r.seq, encode(r.sha256, 'hex') AS asset_id FROM asset_refs AS r
WHERE NOT EXISTS (
    SELECT FROM assets AS a WHERE a.project_id = r.project_id AND a.sha256 = r.sha256
)
ORDER BY r.key, r.seq LIMIT 1000"""

_ASSETS = """
SELECT project_id, sha256, object_key, size FROM assets
WHERE (project_id, sha256) > (%(project_id)s, %(sha256)s)
ORDER BY project_id, sha256 LIMIT %(batch)s"""

_HAS_ASSET = """
SELECT true FROM assets WHERE project_id = %(project_id)s AND sha256 = %(sha256)s
    AND object_key = %(object_key)s"""

_NIL = UUID(int=0)


@dataclass(frozen=True, slots=True)
class SessionShape:
    """The columns of a session's row that determine which messages must be stored."""

    key: UUID
    project_id: UUID
    session_id: str
    log: UUID
    message_log: UUID
    last_seq: int
    base_seq: int
    content_bytes: int
    running_turn: UUID | None


@dataclass(frozen=True, slots=True)
class StoredRange:
    """A range of seqs that a session reads, and totals of the messages stored in it."""

    key: UUID
    first_seq: int
    last_seq: int
    messages: int
    content_bytes: int
    first: int | None
    last: int | None


@dataclass(frozen=True, slots=True)
class Batch:
    """Sessions, the ranges that they read, and the faults found, in one snapshot."""

    sessions: list[SessionShape]
    ranges: list[StoredRange]
    faults: list[Fault]


@dataclass(frozen=True, slots=True)
class StoredAsset:
    """An asset, and the object that should hold its content."""

    project_id: UUID
    sha256: bytes
    object_key: str
    size: int


class IntegrityStore:
    """Reads everything that is stored, in batches, each in one snapshot."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def batches(self, size: int) -> AsyncGenerator[Batch, None]:
        """Yield all sessions in the order of their keys."""
        after = _NIL
        while True:
            async with self._database.transaction() as connection:
                rows = self._database.rows
                await rows(_SNAPSHOT, on=connection)
                found = await rows(_BATCH, {"after": after, "batch": size}, on=connection)
                keys = {"keys": [row["key"] for row in found]}
                batch = Batch(
                    [SessionShape(**row) for row in found],
                    [StoredRange(**row) for row in await rows(_RANGES, keys, on=connection)],
                    [
                        Fault(kind, row.pop("key"), row)
                        for kind, statement in FAULTS.items()
                        for row in await rows(statement, keys, on=connection)
                    ],
                )
            if not batch.sessions:
                return
            yield batch
            after = batch.sessions[-1].key

    async def dangling_references(self) -> list[tuple[UUID, int, str]]:
        """Return messages that refer to assets without a row, at most 1,000."""
        found = await self._database.rows(_REFERENCES)
        return [(row["key"], row["seq"], row["asset_id"]) for row in found]

    async def assets(self, size: int) -> AsyncGenerator[StoredAsset, None]:
        """Yield all assets."""
        last = {"project_id": _NIL, "sha256": b""}
        while True:
            found = await self._database.rows(_ASSETS, last | {"batch": size})
            for row in found:
                yield StoredAsset(**row)
            if len(found) < size:
                return
            last = {name: found[-1][name] for name in ("project_id", "sha256")}

    async def has(self, asset: StoredAsset) -> bool:
        """Return whether an asset still has a row with the same object."""
        parameters = {
            "project_id": asset.project_id,
            "sha256": asset.sha256,
            "object_key": asset.object_key,
        }
        return bool(await self._database.rows(_HAS_ASSET, parameters))
