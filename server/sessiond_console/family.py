"""The copies of a session as a tree, and the seq at which two of its sessions diverge."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from sessiond import AsyncClient, SessionInfo
from sessiond.errors import NotFound

MAX_NODES = 200
MAX_ANCESTORS = 50
MAX_COPIES = 50
# Maximum number of concurrent calls, so that a large tree does not delay other pages.
_CONCURRENCY = 8


@dataclass(slots=True)
class Node:
    """A session of the tree."""

    session_id: str
    cut: int
    """The last seq that this session shares with its source."""
    info: SessionInfo
    copies: list["Node"] = field(default_factory=list)
    depth: int = 0
    row: int = 0
    omitted: int = 0
    """Number of copies of this session that are not shown."""


@dataclass(slots=True)
class Family:
    """The tree that a session belongs to."""

    root: Node
    nodes: list[Node]
    """All nodes, in the order of their rows."""
    is_partial: bool = False
    """Whether some sessions are left out, because there are too many."""

    def find(self, session_id: str) -> Node | None:
        """Return a session's node; None if it is not in the tree."""
        return next((node for node in self.nodes if node.session_id == session_id), None)

    def cut_of(self, first: str, second: str) -> int:
        """Return the last seq that two sessions share because of copying; 0 if they share none."""
        paths = [dict(_path(self.root, session_id)) for session_id in (first, second)]
        shared = [session_id for session_id in paths[0] if session_id in paths[1]]
        # shared[0] is the nearest common ancestor. paths[i][shared[0]] is the last seq that session
        # i shares with it.
        return min(paths[0][shared[0]], paths[1][shared[0]]) if shared else 0


def _path(root: Node, session_id: str) -> Iterator[tuple[str, int]]:
    """Yield a session and its ancestors, each with the last seq that the session shares with it."""
    found: list[Node] = []

    def search(node: Node) -> bool:
        if node.session_id == session_id or any(search(copy) for copy in node.copies):
            found.append(node)
            return True
        return False

    search(root)
    shared = (1 << 62) if found else 0
    for node in found:
        yield node.session_id, shared
        shared = min(shared, node.cut)


async def family_of(api: AsyncClient, info: SessionInfo) -> Family:
    """Return the tree of a session: up to its oldest source that exists, and down to all copies.

    Args:
        api: the client.
        info: the session.

    Raises:
        SessiondError: if a call failed.
    """
    top, cut_above = info, 0
    for _ in range(MAX_ANCESTORS):
        if not top.origin:
            break
        try:
            source = await api.sessions.get(top.origin.session_id)
        except NotFound:
            cut_above = top.origin.seq
            break
        if source.created_at > top.created_at:
            # A new session has taken the id of the deleted source.
            break
        top = source
    root = Node(top.session_id, cut_above, top)
    family = Family(root, [])
    count = 1
    level = [root]
    limit = asyncio.Semaphore(_CONCURRENCY)

    async def expand(node: Node) -> None:
        async with limit:
            try:
                async for copy in api.sessions.copies(node.session_id, page_size=MAX_COPIES + 1):
                    if len(node.copies) == MAX_COPIES:
                        node.omitted += 1
                        break
                    copied = await api.sessions.get(copy.session_id)
                    node.copies.append(
                        Node(copy.session_id, copy.seq, copied, depth=node.depth + 1)
                    )
            except NotFound:
                # The session was deleted while the tree was read.
                return

    while level and count < MAX_NODES:
        await asyncio.gather(*(expand(node) for node in level))
        level = [copy for node in level for copy in node.copies]
        count += len(level)
    family.is_partial = bool(level) or any(node.omitted for node in _walk(root))
    for row, node in enumerate(_walk(root)):
        node.row = row
        family.nodes.append(node)
    return family


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for copy in sorted(node.copies, key=lambda one: (one.cut, one.session_id)):
        yield from _walk(copy)
