"""The sweeper: garbage collection of assets and objects in the background.

It removes assets without references, and objects without an asset.
"""

import asyncio
from typing import NamedTuple

import structlog

from sessiond_server.assets.service import TRANSIENT_ERRORS
from sessiond_server.assets.store.assets import AssetStore, ScanPosition
from sessiond_server.assets.store.objects import Objects, ObjectStoreUnavailable

ASSETS_A_BATCH = 1_000
# The scan reads assets with references too, so it needs a bound for each round.
BATCHES_A_ROUND = 10
OBJECTS_A_BATCH = 100
OBJECTS_AT_ONCE = 8

log = structlog.get_logger(__name__)


class Swept(NamedTuple):
    """Removals of one round.

    Attributes:
        assets: assets without references.
        objects: objects without an asset.
    """

    assets: int
    objects: int


class Sweeper:
    """Collects garbage in rounds. Every server runs one; row locks divide the work among them.

    Args:
        store: the database.
        objects: the object store.
        interval_s: pause between two rounds, in seconds.
        grace_s: how long an asset without references stays after its last upload, in seconds.
    """

    def __init__(
        self, store: AssetStore, objects: Objects, *, interval_s: float, grace_s: float
    ) -> None:
        self._store = store
        self._objects = objects
        self._interval_s = interval_s
        self._grace_s = grace_s
        self._position = ScanPosition()

    async def run(self) -> None:
        """Run rounds until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self.round()
            except TRANSIENT_ERRORS as e:
                log.warning("asset_gc_retrying", error=str(e)[:200])

    async def round(self) -> Swept:
        """Scan the next assets, continuing where the last round ended, and remove due objects."""
        assets = objects = 0
        for _ in range(BATCHES_A_ROUND):
            batch = await self._store.release_unreferenced(
                self._grace_s, self._position, ASSETS_A_BATCH
            )
            assets += batch.released
            self._position = batch.position
            if batch.scanned < ASSETS_A_BATCH:
                self._position = ScanPosition()
                break
        while due := await self._store.take_due(OBJECTS_A_BATCH):
            removed = await self._remove(due)
            objects += removed
            if removed < len(due):
                break  # the store is unavailable: the rest comes due again
        if assets or objects:
            log.info("asset_gc", assets=assets, objects=objects)
        return Swept(assets, objects)

    async def _remove(self, object_keys: list[str]) -> int:
        """Remove objects, then their rows. Returns how many were removed.

        In this order, because repeating the removal after a crash is harmless.
        """
        slots = asyncio.Semaphore(OBJECTS_AT_ONCE)

        async def remove(object_key: str) -> str | None:
            async with slots:
                try:
                    await self._objects.delete(object_key)
                except ObjectStoreUnavailable:
                    return None
                return object_key

        removed = [key for key in await asyncio.gather(*map(remove, object_keys)) if key]
        if removed:
            await self._store.forget(removed)
        return len(removed)
