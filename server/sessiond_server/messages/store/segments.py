"""Segments: ranges of logs in which the messages of a session are stored.

A session's oldest messages are in its segments. These are ranges of logs that the session had
before a rewind, or of logs that it shares with the session from which it was copied. The session's
newer messages are in its message log.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from psycopg.types.numeric import Int8


@dataclass(frozen=True, slots=True)
class Segment:
    """Messages first_seq to last_seq in the log (key, log)."""

    key: UUID
    log: UUID
    first_seq: int
    last_seq: int

    def __len__(self) -> int:
        return self.last_seq - self.first_seq + 1


SEGMENTS = (
    "SELECT src_key, src_log, first_seq, last_seq FROM segments "
    "WHERE key = %(key)s ORDER BY first_seq"
)
"""Selects the shared segments of a session, in order, with Segment's columns."""

UNNESTED = """unnest(
    %(keys)s::uuid[], %(logs)s::uuid[], %(firsts)s::bigint[], %(lasts)s::bigint[]
) AS segment (key, log, first_seq, last_seq)"""
"""The segments that `columns` passes, as a table."""

SHORT = 2_000
"""Maximum number of messages in a short segment.

Starting the scan of such a segment costs more than reading its messages.
"""
MAX_SHORT = 16
"""Sessions with more short segments are flattened.

The condition of the index sessions_chain_idx contains this number.
"""


def short_segments(segments: Sequence[Segment], key: UUID, log: UUID) -> list[Segment]:
    """Return those segments of a session that are worth moving into its message log (key, log)."""
    # The log is compared as well, since the key may have other logs, from deleted sessions with the
    # same id.
    return [s for s in segments if len(s) <= SHORT and (s.key, s.log) != (key, log)]


def columns(segments: Sequence[Segment]) -> dict[str, object]:
    """Return the columns of segments as parameters of an unnest()."""
    return {
        "keys": [s.key for s in segments],
        "logs": [s.log for s in segments],
        "firsts": [Int8(s.first_seq) for s in segments],
        "lasts": [Int8(s.last_seq) for s in segments],
    }


def cut(segments: Sequence[Segment], after: int, through: int) -> list[Segment]:
    """Return the parts of ordered segments that hold the seqs after < seq <= through."""
    return [
        replace(s, first_seq=max(s.first_seq, after + 1), last_seq=min(s.last_seq, through))
        for s in segments
        if s.last_seq > after and s.first_seq <= through
    ]


def joined(segments: Sequence[Segment]) -> list[Segment]:
    """Join neighbouring segments of the same log; return as few segments as possible."""
    result: list[Segment] = []
    for s in segments:
        if result and (result[-1].key, result[-1].log) == (s.key, s.log):
            result[-1] = replace(result[-1], last_seq=s.last_seq)
        else:
            result.append(s)
    return result
