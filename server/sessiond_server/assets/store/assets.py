"""Assets: their metadata, references to them, and objects that belong to no asset.

Every object in the object store is named by a row. The row is in `assets` while an asset has the
object, and in `loose_objects` before and afterwards. No crash can therefore leave an unknown object
behind. The garbage collection removes loose objects when they are due.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from sessiond_server.db.pool import Database
from sessiond_server.db.prepared import (
    BYTEA,
    BYTEA_ARRAY,
    INT8,
    TEXT,
    UUID_KEY,
    PreparedStatement,
)

# More than an upload may take. After this time, the server that was writing the object is
# considered dead.
UPLOAD_ENDS = timedelta(hours=24)
# More than the removal of an object may take. After this time, another server tries again.
REMOVAL_ENDS = timedelta(minutes=10)

REFS_A_STATEMENT = 5_000

_NIL = UUID(int=0)

_COLUMNS = """
sha256, object_key, size, media_type,
(extract(epoch FROM created_at) * 1000000)::bigint AS created_us"""

_ANNOUNCE = """
INSERT INTO loose_objects (object_key, due_at) VALUES (%(key)s, now() + %(ends)s)
RETURNING (extract(epoch FROM due_at) * 1000000)::bigint AS token"""

# Giving up an object changes its due_at, and thereby its token, so that the object can no longer
# become the content of an asset.
_HOLD = """
SELECT 1 FROM loose_objects
WHERE object_key = %(key)s AND (extract(epoch FROM due_at) * 1000000)::bigint = %(token)s
FOR UPDATE"""

_RECORD = f"""
INSERT INTO assets (project_id, sha256, object_key, size, media_type)
VALUES (%(project_id)s, %(sha256)s, %(key)s, %(size)s, %(media_type)s)
ON CONFLICT (project_id, sha256) DO UPDATE SET touched_at = now()
RETURNING {_COLUMNS}"""

_GET = f"""
SELECT {_COLUMNS} FROM assets WHERE project_id = %(project_id)s AND sha256 = %(sha256)s"""

# Every turn whose history refers to files runs this statement. The hashes are binary: as text, a
# few dozen take longer to write than the statement takes to run.
_GET_MANY = PreparedStatement(
    "assets.get_many",
    f"""
SELECT {_COLUMNS} FROM assets
WHERE project_id = %(project_id)s AND sha256 = ANY(%(digests)s)""",
    {"project_id": UUID_KEY, "digests": BYTEA_ARRAY},
    (BYTEA, TEXT, INT8, TEXT, INT8),
)

_GIVE_UP = (
    "UPDATE loose_objects SET due_at = now() + %(ends)s WHERE object_key = %(key)s RETURNING 1"
)
_FORGET = "DELETE FROM loose_objects WHERE object_key = ANY(%(keys)s)"

# These locks are compatible with each other and with an upload of the same content, but not with
# the garbage collection, so the assets are kept until the references are committed. The locks are
# taken in a fixed order, so that two appends cannot deadlock.
_LOCK = """
SELECT sha256 FROM assets WHERE project_id = %(project_id)s AND sha256 = ANY(%(digests)b)
ORDER BY sha256 FOR KEY SHARE"""

_REFER = """
INSERT INTO asset_refs (key, log, seq, sha256, project_id)
SELECT %(key)s, %(log)s, seq, sha256, %(project_id)s
FROM unnest(%(seqs)b::bigint[], %(digests)b::bytea[]) AS r (seq, sha256)"""

_UNREFERENCED = """NOT EXISTS (
        SELECT FROM asset_refs r WHERE r.project_id = a.project_id AND r.sha256 = a.sha256)"""

_SCAN = f"""
SELECT project_id, sha256, touched_at::text AS time, {_UNREFERENCED} AS is_unused
FROM assets a
WHERE touched_at < now() - %(grace)s AND (touched_at, project_id, sha256)
    > (%(time)s::timestamptz, %(project_id)s::uuid, %(sha256)s::bytea)
ORDER BY touched_at, project_id, sha256 LIMIT %(batch)s"""

_GIVEN = "unnest(%(projects)s::uuid[], %(digests)s::bytea[]) AS given (project_id, sha256)"

_LOCK_UNUSED = f"""
SELECT a.project_id, a.sha256 FROM assets a JOIN {_GIVEN} USING (project_id, sha256)
WHERE a.touched_at < now() - %(grace)s
ORDER BY a.project_id, a.sha256 FOR UPDATE OF a SKIP LOCKED"""

# This statement must run after the statement that takes the locks. It then sees everything that was
# committed before the locks were taken.
_RELEASE = f"""
WITH gone AS (
    DELETE FROM assets a USING {_GIVEN}
    WHERE a.project_id = given.project_id AND a.sha256 = given.sha256 AND {_UNREFERENCED}
    RETURNING a.object_key
)
INSERT INTO loose_objects (object_key, due_at) SELECT object_key, now() FROM gone
RETURNING object_key"""

_TAKE_DUE = """
UPDATE loose_objects SET due_at = now() + %(ends)s WHERE object_key = ANY(ARRAY(
    SELECT object_key FROM loose_objects WHERE due_at <= now()
    ORDER BY due_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED))
RETURNING object_key"""


@dataclass(eq=False)
class AssetMissing(Exception):
    """An asset does not exist in the project.

    Attributes:
        sha256: hash of the first missing asset.
    """

    sha256: bytes


class UploadGivenUp(Exception):
    """The object of this upload was given up because the upload took too long."""


@dataclass(frozen=True, slots=True)
class AssetRow:
    """Metadata of an asset.

    Attributes:
        sha256: hash of the content.
        object_key: key of the content in the object store.
        size: size of the content in bytes.
        media_type: IANA media type; "" = unknown.
        created_us: time of the first upload, in microseconds since 1970.
    """

    sha256: bytes
    object_key: str
    size: int
    media_type: str
    created_us: int


@dataclass(frozen=True, slots=True)
class ScanPosition:
    """Position in a scan of the assets, which are ordered by touched_at, project_id and sha256."""

    time: str = "-infinity"
    project_id: UUID = _NIL
    sha256: bytes = b""


class Released(NamedTuple):
    """A scanned batch of assets.

    Attributes:
        scanned: number of assets in the batch.
        released: number of those assets that were deleted because nothing refers to them.
        position: position at which the next batch begins.
    """

    scanned: int
    released: int
    position: ScanPosition


class AssetStore:
    """Assets and loose objects."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def announce(self, object_key: str) -> int:
        """Record an object before it is written. Returns the token that `record` requires."""
        parameters = {"key": object_key, "ends": UPLOAD_ENDS}
        [announced] = await self._database.rows(_ANNOUNCE, parameters)
        return int(announced["token"])

    async def record(self, project_id: UUID, new: AssetRow, token: int) -> AssetRow:
        """Create an asset for an announced object.

        If the project already has an asset with this content, the object is given up.

        Args:
            project_id: the project.
            new: the asset.
            token: the token that `announce` returned.

        Returns:
            The new asset, or the existing one.

        Raises:
            UploadGivenUp: the upload took too long.
        """
        parameters = {
            "project_id": project_id,
            "sha256": new.sha256,
            "key": new.object_key,
            "size": new.size,
            "media_type": new.media_type,
            "token": token,
        }
        async with self._database.transaction() as connection:
            run = partial(self._database.rows, on=connection)
            if not await run(_HOLD, parameters):
                raise UploadGivenUp(new.object_key)
            [row] = await run(_RECORD, parameters)
            if row["object_key"] == new.object_key:
                await run(_FORGET, {"keys": [new.object_key]})
            else:
                await run(_GIVE_UP, {"key": new.object_key, "ends": REMOVAL_ENDS})
        return AssetRow(**row)

    async def get(self, project_id: UUID, sha256: bytes) -> AssetRow | None:
        """Return an asset's metadata; None if the project does not have the asset."""
        rows = await self._database.rows(_GET, {"project_id": project_id, "sha256": sha256})
        return AssetRow(**rows[0]) if rows else None

    async def get_many(self, project_id: UUID, digests: Sequence[bytes]) -> list[AssetRow]:
        """Return those of the given assets that exist."""
        parameters = {"project_id": project_id, "digests": digests}
        async with self._database.connection() as connection:
            return [AssetRow(*row) for row in await _GET_MANY.run(connection, parameters)]

    async def give_up(self, object_key: str) -> bool:
        """Claim a loose object for removal. Returns False if it is an asset's object, or gone."""
        parameters = {"key": object_key, "ends": REMOVAL_ENDS}
        return bool(await self._database.rows(_GIVE_UP, parameters))

    async def forget(self, object_keys: Sequence[str]) -> None:
        """Delete the rows of removed objects."""
        await self._database.rows(_FORGET, {"keys": list(object_keys)})

    async def release_unreferenced(
        self, grace_s: float, after: ScanPosition, batch: int
    ) -> Released:
        """Scan a batch of assets and delete those without references. Their objects become loose.

        Args:
            grace_s: age of the last upload, in seconds, up to which an asset is kept.
            after: end of the previous batch.
            batch: maximum number of assets to scan.
        """
        parameters = {
            "grace": timedelta(seconds=grace_s),
            "time": after.time,
            "project_id": after.project_id,
            "sha256": after.sha256,
            "batch": batch,
        }
        rows = await self._database.rows(_SCAN, parameters)
        if not rows:
            return Released(0, 0, after)
        unused = [row for row in rows if row["is_unused"]]
        released = 0
        if unused:
            async with self._database.transaction() as connection:
                parameters |= _given(unused)
                locked = await self._database.rows(_LOCK_UNUSED, parameters, on=connection)
                released = len(await self._database.rows(_RELEASE, _given(locked), on=connection))
        last = rows[-1]
        position = ScanPosition(last["time"], last["project_id"], last["sha256"])
        return Released(len(rows), released, position)

    async def take_due(self, batch: int) -> list[str]:
        """Claim at most `batch` loose objects that are due for removal. Returns their keys."""
        parameters = {"ends": REMOVAL_ENDS, "batch": batch}
        return [row["object_key"] for row in await self._database.rows(_TAKE_DUE, parameters)]


def _given(rows: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """Return the parameters of _GIVEN."""
    return {
        "projects": [row["project_id"] for row in rows],
        "digests": [row["sha256"] for row in rows],
    }


async def hold(
    connection: AsyncConnection[TupleRow], project_id: UUID, digests: Sequence[bytes]
) -> None:
    """Lock assets against garbage collection until the transaction ends.

    Raises:
        AssetMissing: one of the assets does not exist in the project.
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
    """Record which messages refer to which assets.

    Args:
        connection: a connection in the transaction that stores the messages.
        key: key of the messages' log.
        log: id of the messages' log.
        project_id: the assets' project.
        first_seq: seq of the append's first message.
        refs: pairs of (index of the message in the append, from 0; sha256), without duplicates.
    """
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
