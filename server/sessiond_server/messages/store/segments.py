"""Where a session's messages lie: the segments that a copy shares with its source, then the session's own log."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Segment:
    """Messages first_seq to last_seq of the log (key, log)."""

    key: UUID
    log: UUID
    first_seq: int
    last_seq: int

    def __len__(self) -> int:
        return self.last_seq - self.first_seq + 1


SHORT = 2_000
"""Messages up to which a segment is short: its own scan costs a read more than its messages do."""
MAX_SHORT = 16
"""How many short segments a session may have before it is flattened. The index sessions_chain_idx has the same number."""


def short_segments(segments: Sequence[Segment], key: UUID, log: UUID) -> list[Segment]:
    """Those of a session's segments that are worth moving into its own log (key, log)."""
    # By the log too: the key may have had other logs, of sessions of the same id that are gone.
    return [s for s in segments if len(s) <= SHORT and (s.key, s.log) != (key, log)]


def cut(segments: Sequence[Segment], after: int, through: int) -> list[Segment]:
    """The parts of segments, which are in order, that hold after < seq <= through."""
    return [
        replace(s, first_seq=max(s.first_seq, after + 1), last_seq=min(s.last_seq, through))
        for s in segments
        if s.last_seq > after and s.first_seq <= through
    ]


def joined(segments: Sequence[Segment]) -> list[Segment]:
    """The same messages in the fewest segments: neighbours in one log become one."""
    result: list[Segment] = []
    for s in segments:
        if result and (result[-1].key, result[-1].log) == (s.key, s.log):
            result[-1] = replace(result[-1], last_seq=s.last_seq)
        else:
            result.append(s)
    return result
