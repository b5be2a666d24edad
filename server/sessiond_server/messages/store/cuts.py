"""Cuts: the seqs at which the rewinds of a session ended its history."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sessiond_server.db.pool import Database
from sessiond_server.messages.store.history import LogHead

KEPT_CUTS = 64
"""Number of a session's rewinds that are remembered.

A reader whose epoch is older than all of them has to read the history from the start.
"""

_SINCE = """
SELECT min(last_seq) AS last_seq, count(*) AS count, max(created_at) AS created_at,
    (array_agg(last_seq + removed_count ORDER BY epoch))[1] AS end_seq
FROM rewinds WHERE key = %(key)s AND log = %(log)s AND epoch > %(since)s AND epoch <= %(through)s"""


@dataclass(frozen=True, slots=True)
class Cut:
    """The combined effect of several rewinds on the history of an earlier epoch.

    Attributes:
        epoch: the epoch after the last rewind.
        last_seq: seq of the last message that all these rewinds have kept.
        removed_count: number of messages of the earlier epoch that are gone; 0 if the earlier epoch
            is no longer remembered.
        created_at: time of the last rewind; None if it is no longer remembered.
    """

    epoch: int
    last_seq: int
    removed_count: int
    created_at: datetime | None


class CutStore:
    """The remembered rewinds of sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def since(self, key: UUID, head: LogHead, epoch: int) -> Cut:
        """Return the combined effect of the rewinds since an epoch, up to the epoch of the head.

        Args:
            key: the session's key.
            head: the session's head.
            epoch: the earlier epoch, which is less than the head's epoch.
        """
        values = {"key": key, "log": head.log, "since": epoch, "through": head.epoch}
        [row] = await self._database.rows(_SINCE, values)
        if row["count"] < head.epoch - epoch:
            return Cut(head.epoch, 0, 0, row["created_at"])
        last_seq = row["last_seq"]
        return Cut(head.epoch, last_seq, row["end_seq"] - last_seq, row["created_at"])
