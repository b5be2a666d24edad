"""The sweeper: garbage collection of assets and objects in the background.

The sweeper removes assets without references, and objects that belong to no asset.
"""

import asyncio
from typing import NamedTuple

import structlog

from sessiond_server.assets.service import TRANSIENT_ERRORS
from sessiond_server.assets.store.assets import AssetStore, ScanPosition
from sessiond_server.assets.store.objects import Objects, ObjectStoreUnavailable

ASSETS_A_BATCH = 1_000
# The scan also reads assets that have references, so each round is limited to this many batches.
BATCHES_A_ROUND = 10
OBJECTS_A_BATCH = 100
OBJECTS_AT_ONCE = 8

log = structlog.get_logger(__name__)


class Swept(NamedTuple):
    """Numbers of removals in one round.

    Attributes:
        assets: number of removed assets without references.
        objects: number of removed objects that belonged to no asset.
    """

    assets: int
    objects: int


class Sweeper:
    """Collects garbage in rounds. Every server runs one; row locks divide the work among them.

    Args:
        store: store of the assets' rows.
        objects: the object store.
        interval_s: pause between two rounds, in seconds.
        grace_s: how long an asset without references is kept after its last upload, in seconds.
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
        """Continue the scan where the last round ended, and remove the objects that are due."""
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
                break  # the store is unavailable: the remaining objects become due again
        if assets or objects:
            log.info("asset_gc", assets=assets, objects=objects)
        return Swept(assets, objects)

    async def _remove(self, object_keys: list[str]) -> int:
        """Remove objects, then their rows. Returns the number of removed objects.

        The rows are removed last, because repeating the removal of an object after a crash is
        harmless.
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
