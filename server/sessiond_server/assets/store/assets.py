"""Assets: what is known of them, who refers to them, and which objects nobody has.

Every object of the object store is named by a row: of `assets`, or of `loose_objects` before it is an asset's and after. So a crash at any
point leaves nothing that is not known, and the sweep removes what is loose and due.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8

from sessiond_server.db.pool import Database

# For as long as an upload may take, and more. After that its object is taken for that of a server that was killed.
UPLOAD_ENDS = timedelta(hours=24)
# For as long as an object may take to be removed, and more. After that it is somebody else's turn.
REMOVAL_ENDS = timedelta(minutes=10)

REFS_A_STATEMENT = 5_000

_NOBODY = UUID(int=0)

_COLUMNS = (
    "sha256, object_key, size, media_type, (extract(epoch FROM created_at) * 1000000)::bigint"
)

_ANNOUNCE = """
INSERT INTO loose_objects (object_key, due_at) VALUES (%(key)s, now() + %(ends)s)
RETURNING (extract(epoch FROM due_at) * 1000000)::bigint"""

# Whoever gives an object up changes its due_at: it can then no longer become an asset's.
_HOLD = """
SELECT 1 FROM loose_objects
WHERE object_key = %(key)s AND (extract(epoch FROM due_at) * 1000000)::bigint = %(token)s FOR UPDATE"""

_RECORD = f"""
INSERT INTO assets (project_id, sha256, object_key, size, media_type)
VALUES (%(project_id)s, %(sha256)s, %(key)s, %(size)s, %(media_type)s)
ON CONFLICT (project_id, sha256) DO UPDATE SET touched_at = now()
RETURNING {_COLUMNS}"""

_GET = f"SELECT {_COLUMNS} FROM assets WHERE project_id = %s AND sha256 = %s"

_GIVE_UP = (
    "UPDATE loose_objects SET due_at = now() + %(ends)s WHERE object_key = %(key)s RETURNING 1"
)
_FORGET = "DELETE FROM loose_objects WHERE object_key = ANY(%(keys)s)"

# The locks are compatible with one another and with an upload of the same content, not with the sweep: until the references are
# committed, the assets stay. In order, so that two appends do not wait for each other.
_LOCK = """
SELECT sha256 FROM assets WHERE project_id = %(project_id)s AND sha256 = ANY(%(digests)b) ORDER BY sha256 FOR KEY SHARE"""

_REFER = """
INSERT INTO asset_refs (key, log, seq, sha256, project_id)
SELECT %(key)s, %(log)s, seq, sha256, %(project_id)s FROM unnest(%(seqs)b::bigint[], %(digests)b::bytea[]) AS r (seq, sha256)"""

_LOOK = """
SELECT project_id, sha256, touched_at::text,
    NOT EXISTS (SELECT FROM asset_refs r WHERE r.project_id = a.project_id AND r.sha256 = a.sha256)
FROM assets a
WHERE touched_at < now() - %(grace)s AND (touched_at, project_id, sha256) > (%(time)s::timestamptz, %(project_id)s::uuid, %(sha256)s::bytea)
ORDER BY touched_at, project_id, sha256 LIMIT %(batch)s"""

_LOCK_UNUSED = """
SELECT a.project_id, a.sha256 FROM assets a
JOIN unnest(%(projects)b::uuid[], %(digests)b::bytea[]) AS u (project_id, sha256) USING (project_id, sha256)
WHERE a.touched_at < now() - %(grace)s
ORDER BY a.project_id, a.sha256 FOR UPDATE OF a SKIP LOCKED"""

# A statement after the one that locks, so that it sees what was committed until then.
_LOOSEN = """
WITH gone AS (
    DELETE FROM assets a USING unnest(%(projects)b::uuid[], %(digests)b::bytea[]) AS u (project_id, sha256)
    WHERE a.project_id = u.project_id AND a.sha256 = u.sha256
        AND NOT EXISTS (SELECT FROM asset_refs r WHERE r.project_id = a.project_id AND r.sha256 = a.sha256)
    RETURNING a.object_key
)
INSERT INTO loose_objects (object_key, due_at) SELECT object_key, now() FROM gone"""

_TAKE_DUE = """
UPDATE loose_objects SET due_at = now() + %(ends)s WHERE object_key = ANY(ARRAY(
    SELECT object_key FROM loose_objects WHERE due_at <= now() ORDER BY due_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED))
RETURNING object_key"""


class AssetMissing(Exception):
    """The project has no asset of this content. sha256: of the first one that is missing."""

    def __init__(self, sha256: bytes) -> None:
        super().__init__(sha256.hex())
        self.sha256 = sha256


class UploadGivenUp(Exception):
    """The object was taken for one that nobody finishes; it cannot become an asset's."""


@dataclass(frozen=True, slots=True)
class AssetRow:
    """What is known of an asset; created_us is in microseconds since 1970."""

    sha256: bytes
    object_key: str
    size: int
    media_type: str
    created_us: int


@dataclass(frozen=True, slots=True)
class Place:
    """How far a sweep has come through the assets in the order of touched_at."""

    time: str = "-infinity"
    project_id: UUID = _NOBODY
    sha256: bytes = b""


class AssetStore:
    """Assets: what is known of them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def announce(self, object_key: str) -> int:
        """Record an object that is going to be written. Answers the token that record asks for."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                _ANNOUNCE, {"key": object_key, "ends": UPLOAD_ENDS}, binary=True
            )
            row = await cursor.fetchone()
        assert row  # noqa: S101 - RETURNING of an INSERT
        return int(row[0])

    async def record(self, project_id: UUID, new: AssetRow, token: int) -> AssetRow:
        """Make an announced object an asset's content, or find the asset that has this content already: then the object is given up.

        Raises: UploadGivenUp.
        """
        async with self._database.transaction() as connection:
            cursor = await connection.execute(_HOLD, {"key": new.object_key, "token": Int8(token)})
            if await cursor.fetchone() is None:
                raise UploadGivenUp(new.object_key)
            cursor = await connection.execute(
                _RECORD,
                {
                    "project_id": project_id,
                    "sha256": new.sha256,
                    "key": new.object_key,
                    "size": Int8(new.size),
                    "media_type": new.media_type,
                },
                binary=True,
            )
            row = await cursor.fetchone()
            assert row  # noqa: S101 - DO UPDATE answers a row in any case
            found = AssetRow(*row)
            if found.object_key == new.object_key:
                await connection.execute(_FORGET, {"keys": [new.object_key]})
            else:
                await connection.execute(_GIVE_UP, {"key": new.object_key, "ends": REMOVAL_ENDS})
        return found

    async def get(self, project_id: UUID, sha256: bytes) -> AssetRow | None:
        """What is known of an asset."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(_GET, [project_id, sha256], binary=True)
            row = await cursor.fetchone()
        return AssetRow(*row) if row else None

    async def give_up(self, object_key: str) -> bool:
        """Claim an announced object for its removal. False: it is an asset's, or gone."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(_GIVE_UP, {"key": object_key, "ends": REMOVAL_ENDS})
            return await cursor.fetchone() is not None

    async def forget(self, object_keys: Sequence[str]) -> None:
        """Forget loose objects that are removed."""
        async with self._database.connection() as connection:
            await connection.execute(_FORGET, {"keys": list(object_keys)})

    async def release_unreferenced(
        self, grace_s: float, after: Place, batch: int
    ) -> tuple[int, int, Place]:
        """Look at the next `batch` assets that were last uploaded more than grace_s seconds ago, and drop those that nothing refers to.
        Their objects are then loose.

        Returns: how many it looked at, how many went, where to go on.
        """
        grace = timedelta(seconds=grace_s)
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                _LOOK,
                {
                    "grace": grace,
                    "time": after.time,
                    "project_id": after.project_id,
                    "sha256": after.sha256,
                    "batch": Int8(batch),
                },
                binary=True,
            )
            rows = await cursor.fetchall()
        if not rows:
            return 0, 0, after
        unused = [(row[0], row[1]) for row in rows if row[3]]
        return (
            len(rows),
            await self._loosen(unused, grace) if unused else 0,
            Place(rows[-1][2], rows[-1][0], rows[-1][1]),
        )

    async def take_due(self, batch: int) -> list[str]:
        """Claim at most `batch` loose objects that are due, for their removal."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                _TAKE_DUE, {"ends": REMOVAL_ENDS, "batch": Int8(batch)}
            )
            return [row[0] for row in await cursor.fetchall()]

    async def _loosen(self, unused: list[tuple[UUID, bytes]], grace: timedelta) -> int:
        async with self._database.transaction() as connection:
            chosen = {"projects": [u[0] for u in unused], "digests": [u[1] for u in unused]}
            cursor = await connection.execute(_LOCK_UNUSED, {**chosen, "grace": grace}, binary=True)
            locked = await cursor.fetchall()
            if not locked:
                return 0
            cursor = await connection.execute(
                _LOOSEN,
                {"projects": [row[0] for row in locked], "digests": [row[1] for row in locked]},
            )
            return cursor.rowcount


async def hold(
    connection: AsyncConnection[TupleRow], project_id: UUID, digests: Sequence[bytes]
) -> None:
    """Keep the assets from being swept until the transaction ends.

    Raises: AssetMissing, with the first of the digests that no asset has.
    """
    cursor = await connection.execute(
        _LOCK, {"project_id": project_id, "digests": list(digests)}, binary=True
    )
    found = {row[0] for row in await cursor.fetchall()}
    for digest in digests:
        if digest not in found:
            raise AssetMissing(digest)


async def refer(
    connection: AsyncConnection[TupleRow],
    key: UUID,
    log: UUID,
    project_id: UUID,
    first_seq: int,
    refs: Sequence[tuple[int, bytes]],
) -> None:
    """Record which messages refer to which assets. refs: (place in the append, from 0; sha256), each once."""
    for start in range(0, len(refs), REFS_A_STATEMENT):
        some = refs[start : start + REFS_A_STATEMENT]
        await connection.execute(
            _REFER,
            {
                "key": key,
                "log": log,
                "project_id": project_id,
                "seqs": [first_seq + place for place, _ in some],
                "digests": [digest for _, digest in some],
            },
        )
