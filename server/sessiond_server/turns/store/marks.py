"""Marks: the beginnings of sessions' windows, and the earlier messages that are sent as well."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sessiond_server.db.pool import Database
from sessiond_server.messages.store.history import LogHead
from sessiond_server.turns.requests.window import WindowLimits

_GET = """
SELECT first_seq, kept_seqs, task_seq FROM context_marks
WHERE key = %(key)s AND log = %(log)s AND max_messages = %(max_messages)s
    AND max_tokens = %(max_tokens)s AND keep_fraction = %(keep_fraction)s AND epoch = %(epoch)s"""

# Inserts a row only if the session exists. After the purger has removed the rows of a deleted
# session, a new row would stay forever.
_PUT = """
INSERT INTO context_marks (key, log, max_messages, max_tokens, keep_fraction, first_seq, kept_seqs,
    task_seq, epoch)
SELECT key, log, %(max_messages)s, %(max_tokens)s, %(keep_fraction)s, %(first_seq)s,
    %(kept_seqs)s::bigint[], %(task_seq)s, %(epoch)s
FROM sessions WHERE key = %(key)s AND log = %(log)s
ON CONFLICT (key, log) DO UPDATE SET max_messages = EXCLUDED.max_messages,
    max_tokens = EXCLUDED.max_tokens, keep_fraction = EXCLUDED.keep_fraction,
    first_seq = EXCLUDED.first_seq, kept_seqs = EXCLUDED.kept_seqs, task_seq = EXCLUDED.task_seq,
    epoch = EXCLUDED.epoch"""


@dataclass(frozen=True, slots=True)
class Mark:
    """The beginning of a window.

    Attributes:
        first_seq: seq of the first message of the window.
        kept_seqs: seqs of the earlier instructions, ascending.
        task_seq: seq of the earlier user message that the tool loop worked on; 0 if there was none.
    """

    first_seq: int = 1
    kept_seqs: Sequence[int] = ()
    task_seq: int = 0


class MarkStore:
    """The marks of sessions, at most one per session."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, key: UUID, head: LogHead, limits: WindowLimits) -> Mark | None:
        """Return the mark; None if there is none, or if it was set under other limits.

        A turn that a rewind aborts may set a mark after the rewind. That mark is ignored, because
        it has an earlier epoch.
        """
        rows = await self._database.rows(_GET, _parameters(key, head, limits))
        return Mark(**rows[0]) if rows else None

    async def put(self, key: UUID, head: LogHead, limits: WindowLimits, mark: Mark) -> None:
        """Replace the mark."""
        values = {
            "first_seq": mark.first_seq,
            "kept_seqs": list(mark.kept_seqs),
            "task_seq": mark.task_seq,
        }
        await self._database.rows(_PUT, _parameters(key, head, limits) | values)


def _parameters(key: UUID, head: LogHead, limits: WindowLimits) -> dict[str, object]:
    return {
        "key": key,
        "log": head.log,
        "epoch": head.epoch,
        "max_messages": limits.max_messages,
        "max_tokens": limits.max_tokens,
        "keep_fraction": limits.keep_fraction,
    }
