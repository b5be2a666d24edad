"""The sweeper: removes assets that nothing refers to, and objects that no asset has, in the background."""

import asyncio

import structlog

from sessiond_server.assets.service import TRANSIENT_ERRORS
from sessiond_server.assets.store.assets import AssetStore, Place
from sessiond_server.assets.store.objects import Objects, ObjectStoreUnavailable

ASSETS_A_BATCH = 1_000
# Assets that are still referred to have to be looked at, too: not more of them in one round.
BATCHES_A_ROUND = 10
OBJECTS_A_BATCH = 100
OBJECTS_AT_ONCE = 8

log = structlog.get_logger(__name__)


class Sweeper:
    """Every server runs one; they share the work by locking what they take.

    Args:
        interval_s: rest between two rounds.
        grace_s: for how long after its last upload an asset stays that nothing refers to.
    """

    def __init__(
        self, store: AssetStore, objects: Objects, *, interval_s: float, grace_s: float
    ) -> None:
        self._store = store
        self._objects = objects
        self._interval_s = interval_s
        self._grace_s = grace_s
        self._place = Place()

    async def run(self) -> None:
        """Rounds until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self.round()
            except TRANSIENT_ERRORS as e:
                log.warning("sweep put off", error=str(e)[:200])
            except Exception:
                # A fault here must not end the sweeping until the next restart.
                log.exception("sweep failed")

    async def round(self) -> tuple[int, int]:
        """Remove what is due. Looks at the next assets, and goes on there in the next round. Answers how many assets and objects went."""
        assets = objects = 0
        for _ in range(BATCHES_A_ROUND):
            looked_at, removed, self._place = await self._store.release_unreferenced(
                self._grace_s, self._place, ASSETS_A_BATCH
            )
            assets += removed
            if looked_at < ASSETS_A_BATCH:
                self._place = Place()
                break
        while due := await self._store.take_due(OBJECTS_A_BATCH):
            removed = await self._remove(due)
            objects += removed
            if removed < len(due):
                break  # the store is away: what is left comes due again
        if assets or objects:
            log.info("swept", assets=assets, objects=objects)
        return assets, objects

    async def _remove(self, object_keys: list[str]) -> int:
        """Remove objects, then forget them: a crash in between repeats the removal of nothing. Answers how many went."""
        room = asyncio.Semaphore(OBJECTS_AT_ONCE)

        async def remove(object_key: str) -> str | None:
            async with room:
                try:
                    await self._objects.delete(object_key)
                except ObjectStoreUnavailable:
                    return None
                return object_key

        removed = [key for key in await asyncio.gather(*map(remove, object_keys)) if key]
        if removed:
            await self._store.forget(removed)
        return len(removed)
