"""Flattening keeps the lists of segments short. Copies and rewinds make them longer.

If a session reads from many logs, the messages of its short segments are copied into its message
log in the background.
"""

from dataclasses import replace

from sessiond_server.copies.store.flattening import FlatteningStore, LongChain
from sessiond_server.messages.store.segments import joined, short_segments

CHAINS_A_ROUND = 100
# Each batch is one transaction, which delays a deletion of the session. The batch is small, because
# messages may be large.
MESSAGES_A_BATCH = 200


class Flattener:
    """Flattens long chains in the purger's rounds.

    Every server runs a flattener. If two of them choose the same session, both copy the messages,
    and one of them replaces the list of segments.
    """

    def __init__(self, store: FlatteningStore) -> None:
        self._store = store

    async def round(self) -> int:
        """Flatten long chains. Returns the number of sessions whose chains became shorter."""
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
