"""Branches: the path from a message through its parents.

The parent of a message is the message that its parent_seq names, or else the previous message; a
root has none.
Stored messages never change, so the path to a message never changes either.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence

from sessiond_server.messages.store.history import HistoryStore, LogHead
from sessiond_server.messages.store.segments import Segment, cut


async def newest_branch(
    store: HistoryStore, head: LogHead, through: int, *, is_end: bool = False
) -> tuple[Segment, ...]:
    """Return the path to the session's newest message, or to the message `through`.

    The path leads to `through` if `is_end` is true, or if the path to the newest message does not
    contain `through`. For a session without branches, no query is needed.

    Args:
        store: reads the links.
        head: the session's head.
        through: seq of a message that the path contains. 0 = the session's newest message.
        is_end: whether the path must end with the message `through`.

    Returns:
        The segments that hold the messages of the path, in order.
    """
    links = await store.parent_links(head.segments) if head.is_branched else {}
    seq = head.last_seq
    if through and (is_end or not is_ancestor(links, through, seq)):
        seq = through
    return path(head.segments, links, seq)


def path(segments: Sequence[Segment], links: Mapping[int, int], seq: int) -> tuple[Segment, ...]:
    """Return the parts of segments that are on the path to a message, in order.

    Args:
        segments: the session's segments, in order.
        links: by seq, the parent_seq of each message that does not follow the previous message; 0 =
            the message is a root.
        seq: the message that the path ends with; 0 = there is none.
    """
    linked = sorted(links)
    parts: list[Segment] = []
    while seq > 0:
        place = bisect_right(linked, seq)
        first = linked[place - 1] if place else 1
        parts += reversed(cut(segments, first - 1, seq))
        seq = links[first] if place else 0
    return tuple(reversed(parts))


def is_ancestor(links: Mapping[int, int], ancestor: int, seq: int) -> bool:
    """Return whether a message is on the path to another message, or is that message.

    Args:
        links: see `path`. Only the links of messages after the ancestor are needed.
        ancestor: the message that may be on the path.
        seq: the message that the path ends with.
    """
    linked = sorted(seq_ for seq_ in links if seq_ > ancestor)
    while place := bisect_right(linked, seq):
        seq = links[linked[place - 1]]
    return seq >= ancestor
