"""The rules of assets."""

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from uuid import UUID, uuid4

import structlog

from sessiond_server.assets.store.assets import AssetRow, AssetStore, UploadGivenUp
from sessiond_server.assets.store.objects import ObjectMissing, Objects, ObjectStoreUnavailable
from sessiond_server.core.cancellation import check_cancelled
from sessiond_server.core.errors import Fault, invalid
from sessiond_server.core.limits import MAX_MEDIA_TYPE_CHARACTERS, Limits
from sessiond_server.core.validation import check_text
from sessiond_server.db.pool import Contention, DatabaseUnavailable, PoolExhausted

# Less than the time after which an object that is being written is taken for one that a killed server left (assets/store/assets.py).
UPLOAD_ENDS_S = 23 * 3600
CLOSE_TIMEOUT_S = 5.0

# What does not matter to whoever asked: the sweep removes what is left.
TRANSIENT_ERRORS = (ObjectStoreUnavailable, DatabaseUnavailable, PoolExhausted, Contention)

_ASSET_ID = re.compile("[0-9a-f]{64}")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Upload:
    """What an upload says of itself. asset_id "" and size 0 = not known."""

    project_id: UUID
    media_type: str
    asset_id: str
    size: int


class Assets:
    """Files that messages refer to. Their content lies in the object store, what is known of them in the database.

    An upload holds neither connection nor lock while its client sends.
    """

    def __init__(self, store: AssetStore, objects: Objects, limits: Limits) -> None:
        self._store = store
        self._objects = objects
        self._limits = limits
        self._discarding: set[asyncio.Task[None]] = set()

    async def upload(self, upload: Upload, pieces: AsyncIterator[bytes]) -> AssetRow:
        """Store a file. Where that fails, or the client goes away, nothing of it stays.

        Raises: Fault, with the reasons that UploadAsset names; ObjectStoreUnavailable.
        """
        check_text("media_type", upload.media_type, MAX_MEDIA_TYPE_CHARACTERS)
        if upload.asset_id:
            check_asset_id(upload.asset_id)
        if upload.size < 0:
            raise invalid("size", "is negative; 0 stands for one that is not known")
        if upload.size > self._limits.max_asset_bytes:
            raise too_large("size", self._limits.max_asset_bytes)
        object_key = f"{upload.project_id.hex}/{uuid4().hex}"
        try:
            # Before the first byte is written, so that the sweep knows of it, whatever happens from here on.
            token = await self._store.announce(object_key)
            async with asyncio.timeout(UPLOAD_ENDS_S):
                content = _Content(upload, self._limits.max_asset_bytes)
                async with aclosing(content.checked(pieces)) as checked:
                    await self._objects.put(object_key, checked)
                check_cancelled()
                new = AssetRow(
                    content.hash.digest(), object_key, content.size, upload.media_type, 0
                )
                row = await self._store.record(upload.project_id, new, token)
        except UploadGivenUp:
            # It took so long that a sweep has removed what there was by then, and knows of no more.
            await self._remove(object_key)
            raise TimeoutError from None
        except BaseException:
            # A cancelled call must not cancel this as well, and is not to wait for it.
            await asyncio.shield(self._discard(object_key))
            raise
        if row.object_key != object_key:
            await self._remove(object_key)
        return row

    async def get(self, project_id: UUID, asset_id: str) -> AssetRow:
        """What is known of an asset. Raises: Fault ASSET_NOT_FOUND, INVALID_FIELD."""
        row = await self._store.get(project_id, check_asset_id(asset_id))
        if row is None:
            raise asset_not_found(asset_id)
        return row

    async def download(
        self, project_id: UUID, asset_id: str, offset: int, length: int
    ) -> tuple[AssetRow, AsyncGenerator[bytes, None]]:
        """What is known of an asset, and its content from `offset` on, at most `length` bytes (0 = all), in pieces: at least one.

        Raises: Fault ASSET_NOT_FOUND, INVALID_FIELD; the iterator also ObjectStoreUnavailable.
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
        """Wait a little for what is being removed. What is not by then, the sweep removes."""
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
            # Swept while it was read.
            raise asset_not_found(row.sha256.hex()) from None

    def _discard(self, object_key: str) -> asyncio.Task[None]:
        """Give up what an upload has written."""

        async def discard() -> None:
            try:
                # The answer of the database may have been lost, and the object be an asset's.
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
        """Remove a loose object, or leave it to the sweep."""
        try:
            await self._objects.delete(object_key)
            await self._store.forget([object_key])
        except TRANSIENT_ERRORS as e:
            log.warning("an object is left to the sweep", object_key=object_key, error=str(e)[:200])


class _Content:
    """Counts and hashes what comes."""

    def __init__(self, upload: Upload, max_bytes: int) -> None:
        self._upload = upload
        self._max_bytes = max_bytes
        self.hash = hashlib.sha256()
        self.size = 0

    async def checked(self, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """The pieces, up to the first byte that is too much. Raises: Fault ASSET_TOO_LARGE, ASSET_MISMATCH."""
        async for piece in pieces:
            self.size += len(piece)
            self.hash.update(piece)
            if self.size > self._max_bytes:
                raise too_large("data", self._max_bytes)
            if self._upload.size and self.size > self._upload.size:
                raise self._mismatch("size", f"is {self._upload.size}, but more came")
            if piece:
                yield piece
        if self._upload.size and self.size != self._upload.size:
            raise self._mismatch("size", f"is {self._upload.size}, but {self.size} bytes came")
        if self._upload.asset_id and self.hash.hexdigest() != self._upload.asset_id:
            raise self._mismatch(
                "asset_id", f"is {self._upload.asset_id}, but what came is {self.hash.hexdigest()}"
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
    """The SHA-256 that the id spells. Raises: Fault INVALID_FIELD."""
    if not asset_id:
        raise invalid(field, "is required")
    if not _ASSET_ID.fullmatch(asset_id):
        raise invalid(field, "is no asset_id: 64 lower-case hexadecimal digits")
    return bytes.fromhex(asset_id)


def too_large(field: str, limit: int) -> Fault:
    return invalid(
        field,
        f"is larger than an asset may be: {limit} bytes",
        reason="ASSET_TOO_LARGE",
        max_bytes=limit,
    )


def asset_not_found(asset_id: str, field: str = "") -> Fault:
    """field: the path of what names it, where that is not the request's own asset_id."""
    text = f"there is no asset {asset_id}"
    return Fault(
        "ASSET_NOT_FOUND",
        f"{field}: {text}; upload it first" if field else text,
        metadata={"asset_id": asset_id},
        fields={field: text} if field else None,
    )
