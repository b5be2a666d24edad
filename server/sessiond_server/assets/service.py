"""Assets: the rules of AssetService."""

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from uuid import UUID, uuid4

import structlog

from sessiond_server.assets.store.assets import AssetRow, AssetStore, UploadGivenUp
from sessiond_server.assets.store.objects import ObjectMissing, Objects, ObjectStoreUnavailable
from sessiond_server.core.cancellation import check_cancelled
from sessiond_server.core.errors import Fault, invalid
from sessiond_server.core.limits import MAX_MEDIA_TYPE_CHARACTERS, Limits
from sessiond_server.core.validation import check_text
from sessiond_server.db.pool import Contention, DatabaseUnavailable, PoolExhausted
from sessiond_server.formats.files import MAGIC_BYTES, shown_type
from sessiond_server.quotas.service import Quotas
from sessiond_server.quotas.usage import Reservation

# Must be less than UPLOAD_ENDS in assets/store/assets.py, the time after which the server is
# considered dead.
UPLOAD_ENDS_S = 23 * 3600
CLOSE_TIMEOUT_S = 5.0

# Errors after which an upload leaves its cleanup to the garbage collection, which retries.
TRANSIENT_ERRORS = (ObjectStoreUnavailable, DatabaseUnavailable, PoolExhausted, Contention)

# The SHA-256 of the content.
_ASSET_ID = re.compile("[0-9a-f]{64}")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Upload:
    """Properties of an upload, as declared by the client.

    Attributes:
        project_id: the client's project.
        media_type: IANA media type; "" = unknown.
        asset_id: expected id of the content; "" = unknown.
        size: expected size in bytes; 0 = unknown.
    """

    project_id: UUID
    media_type: str
    asset_id: str
    size: int


class Assets:
    """Files that messages refer to: content in the object store, metadata in the database.

    While the client sends an upload, no connection and no lock is held.
    """

    def __init__(self, store: AssetStore, objects: Objects, limits: Limits, quotas: Quotas) -> None:
        self._quotas = quotas
        self._store = store
        self._objects = objects
        self._limits = limits
        self._discarding: set[asyncio.Task[None]] = set()

    async def upload(self, upload: Upload, pieces: AsyncIterator[bytes]) -> AssetRow:
        """Store a file. A failed or cancelled upload leaves nothing behind.

        Raises:
            Fault: with the reasons listed at UploadAsset in the protos.
            ObjectStoreUnavailable: the object store failed.
        """
        check_text("media_type", upload.media_type, MAX_MEDIA_TYPE_CHARACTERS)
        if upload.asset_id:
            check_asset_id(upload.asset_id)
        if upload.size < 0:
            raise invalid("size", "is negative; 0 = unknown")
        if upload.size > self._limits.max_asset_bytes:
            raise too_large("size", self._limits.max_asset_bytes)
        exists = partial(self._exists, upload)
        room = await self._quotas.reserve(upload.project_id, unless=exists, max_bytes=upload.size)
        async with room:
            if not upload.size and self._quotas.has_limit(upload.project_id, "max_bytes"):
                pieces = self._within_quota(upload.project_id, room, pieces)
            return await self._upload(upload, pieces)

    async def _exists(self, upload: Upload) -> bool:
        """Return whether the project already has the asset that a client is about to upload."""
        if not upload.asset_id:
            return False
        return await self._store.get(upload.project_id, bytes.fromhex(upload.asset_id)) is not None

    async def _upload(self, upload: Upload, pieces: AsyncIterator[bytes]) -> AssetRow:
        object_key = f"{upload.project_id.hex}/{uuid4().hex}"
        try:
            # The object is announced before its first byte is written, so that the garbage
            # collection finds it even if the upload fails.
            token = await self._store.announce(object_key)
            async with asyncio.timeout(UPLOAD_ENDS_S):
                content = _Content(upload, self._limits.max_asset_bytes)
                async with aclosing(content.checked(pieces)) as checked:
                    await self._objects.put(object_key, checked)
                check_cancelled()
                media_type = shown_type(content.first, upload.media_type)
                new = AssetRow(content.hash.digest(), object_key, content.size, media_type, 0)
                row = await self._store.record(upload.project_id, new, token)
        except UploadGivenUp:
            # The garbage collection has removed the object and its row. Data that was written
            # after that removal is known only to this server.
            await self._remove(object_key)
            raise TimeoutError from None
        except BaseException:
            # Shielded, because cancelling the call must not cancel the clean-up.
            await asyncio.shield(self._discard(object_key))
            raise
        if row.object_key != object_key:
            await self._remove(object_key)
        return row

    async def _within_quota(
        self, project_id: UUID, room: Reservation, pieces: AsyncIterator[bytes]
    ) -> AsyncGenerator[bytes, None]:
        """Yield the pieces of an upload of unknown size, and add each to the reservation `room`."""
        async for piece in pieces:
            (await self._quotas.reserve(project_id, max_bytes=len(piece))).give_back()
            room.more("max_bytes", len(piece))
            yield piece

    async def get(self, project_id: UUID, asset_id: str) -> AssetRow:
        """Return an asset's metadata.

        Raises:
            Fault: ASSET_NOT_FOUND or INVALID_FIELD.
        """
        row = await self._store.get(project_id, check_asset_id(asset_id))
        if row is None:
            raise asset_not_found(asset_id)
        return row

    async def get_many(self, project_id: UUID, asset_ids: Sequence[str]) -> Mapping[str, AssetRow]:
        """Return the existing assets by their ids, in one query. Malformed ids are ignored."""
        ids = {bytes.fromhex(id_): id_ for id_ in asset_ids if _ASSET_ID.fullmatch(id_)}
        rows = await self._store.get_many(project_id, list(ids))
        return {ids[row.sha256]: row for row in rows}

    async def download(
        self, project_id: UUID, asset_id: str, offset: int, length: int
    ) -> tuple[AssetRow, AsyncGenerator[bytes, None]]:
        """Read an asset.

        Args:
            project_id: the caller's project.
            asset_id: the asset.
            offset: position of the first byte.
            length: maximum number of bytes; 0 = all.

        Returns:
            The metadata, and an iterator over the pieces of the content, which yields at least one
            piece and may raise ObjectStoreUnavailable.

        Raises:
            Fault: ASSET_NOT_FOUND or INVALID_FIELD.
        """
        for field, value in (("offset", offset), ("length", length)):
            if value < 0:
                raise invalid(field, "is negative")
        row = await self.get(project_id, asset_id)
        if offset > row.size:
            raise invalid("offset", f"is {offset}, but the asset has {row.size} bytes")
        count = row.size - offset
        return row, self._pieces(row, offset, min(length, count) if length else count)

    async def close(self) -> None:
        """Wait up to CLOSE_TIMEOUT_S for pending removals. The garbage collection does the rest."""
        if self._discarding:
            await asyncio.wait(self._discarding, timeout=CLOSE_TIMEOUT_S)

    async def _pieces(self, row: AssetRow, offset: int, count: int) -> AsyncGenerator[bytes, None]:
        if not count:
            yield b""
            return
        try:
            async with aclosing(self._objects.get(row.object_key, offset, count)) as pieces:
                async for piece in pieces:
                    yield piece
        except ObjectMissing:
            # The garbage collection has removed the object in the meantime.
            raise asset_not_found(row.sha256.hex()) from None

    def _discard(self, object_key: str) -> asyncio.Task[None]:
        """Give up the object of a failed upload."""

        async def discard() -> None:
            try:
                # Ask the database first: the commit may have succeeded although its response was
                # lost.
                is_loose = await self._store.give_up(object_key)
            except TRANSIENT_ERRORS:
                return
            if is_loose:
                await self._remove(object_key)

        task = asyncio.create_task(discard())
        self._discarding.add(task)
        task.add_done_callback(self._discarding.discard)
        return task

    async def _remove(self, object_key: str) -> None:
        """Remove a loose object, or leave it to the garbage collection."""
        try:
            await self._objects.delete(object_key)
            await self._store.forget([object_key])
        except TRANSIENT_ERRORS as e:
            log.warning("object_left_to_gc", object_key=object_key, error=str(e)[:200])


class _Content:
    """Counts and hashes the content of an upload.

    Attributes:
        hash: SHA-256 of the content so far.
        size: bytes so far.
        first: the first bytes.
    """

    def __init__(self, upload: Upload, max_bytes: int) -> None:
        self._upload = upload
        self._max_bytes = max_bytes
        self.hash = hashlib.sha256()
        self.size = 0
        self.first = b""

    async def checked(self, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Yield the pieces unchanged, and compare them with the client's declarations.

        Raises:
            Fault: ASSET_TOO_LARGE or ASSET_MISMATCH.
        """
        async for piece in pieces:
            self.size += len(piece)
            if len(self.first) < MAGIC_BYTES:
                self.first += piece[:MAGIC_BYTES]
            self.hash.update(piece)
            if self.size > self._max_bytes:
                raise too_large("data", self._max_bytes)
            if self._upload.size and self.size > self._upload.size:
                raise self._mismatch("size", f"is {self._upload.size}, but the content is longer")
            if piece:
                yield piece
        if self._upload.size and self.size != self._upload.size:
            raise self._mismatch(
                "size", f"is {self._upload.size}, but the content has {self.size} bytes"
            )
        if self._upload.asset_id and self.hash.hexdigest() != self._upload.asset_id:
            raise self._mismatch(
                "asset_id",
                f"is {self._upload.asset_id}, but the content's is {self.hash.hexdigest()}",
            )

    def _mismatch(self, field: str, description: str) -> Fault:
        return invalid(
            field,
            description,
            reason="ASSET_MISMATCH",
            asset_id=self.hash.hexdigest(),
            size=self.size,
        )


def check_asset_id(asset_id: str, field: str = "asset_id") -> bytes:
    """Return the SHA-256 of an asset_id.

    Args:
        asset_id: the id.
        field: path of the asset_id in the request, for faults.

    Raises:
        Fault: INVALID_FIELD.
    """
    if not asset_id:
        raise invalid(field, "is required")
    if not _ASSET_ID.fullmatch(asset_id):
        raise invalid(field, "is not an asset_id: 64 lower-case hexadecimal digits")
    return bytes.fromhex(asset_id)


def too_large(field: str, limit: int) -> Fault:
    """Return the fault for content that is larger than `limit` bytes."""
    return invalid(
        field,
        f"is larger than an asset may be: {limit} bytes",
        reason="ASSET_TOO_LARGE",
        max_bytes=limit,
    )


def asset_not_found(asset_id: str, field: str = "") -> Fault:
    """Return the fault for an unknown asset.

    Args:
        asset_id: the unknown asset_id.
        field: path of the field that contains it; "" = the request's own asset_id.
    """
    text = f"there is no asset {asset_id}"
    return Fault(
        "ASSET_NOT_FOUND",
        f"{field}: {text}; upload it first" if field else text,
        metadata={"asset_id": asset_id},
        fields={field: text} if field else None,
    )
