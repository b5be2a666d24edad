"""Keeps chains of copies short: in the background, a session that reads from many logs gets the short ones into its own."""

from dataclasses import replace

from sessiond_server.copies.store.flattening import FlatteningStore, LongChain
from sessiond_server.messages.store.segments import joined, short_segments

CHAINS_A_ROUND = 100
# Each a transaction, for which a deletion of the session waits: of messages of any size.
MESSAGES_A_BATCH = 200


class Flattener:
    """Every server runs one, in the purger's rounds. Two that take the same session do the same work; one of them wins."""

    def __init__(self, store: FlatteningStore) -> None:
        self._store = store

    async def round(self) -> int:
        """Flatten what is long. Answers how many sessions became shorter."""
        flattened = 0
        for chain in await self._store.long_chains(CHAINS_A_ROUND):
            flattened += await self._flatten(chain)
        return flattened

    async def _flatten(self, chain: LongChain) -> bool:
        short = set(short_segments(chain.segments, chain.key, chain.log))
        for segment in short:
            for first in range(segment.first_seq, segment.last_seq + 1, MESSAGES_A_BATCH):
                last = min(first + MESSAGES_A_BATCH - 1, segment.last_seq)
                if not await self._store.write(
                    chain, replace(segment, first_seq=first, last_seq=last)
                ):
                    return False
        moved = [
            replace(s, key=chain.key, log=chain.log) if s in short else s for s in chain.segments
        ]
        return await self._store.replace(chain, joined(moved))
