"""Queues that serve projects in turn, so that a burst of one project hardly delays the others."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar
from uuid import UUID

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """A queue that returns one item of each project in turn, and a project's items in order."""

    def __init__(self) -> None:
        # The projects that have items, in the order of their next turns.
        self._items: dict[UUID | None, deque[Item]] = {}

    def __bool__(self) -> bool:
        return bool(self._items)

    def put(self, project_id: UUID | None, item: Item) -> None:
        """Add an item of a project; None = the item does not belong to a single project."""
        self._items.setdefault(project_id, deque()).append(item)

    def take(self) -> Item:
        """Remove and return the next item.

        Raises:
            StopIteration: if the queue is empty.
        """
        project_id = next(iter(self._items))
        items = self._items.pop(project_id)
        item = items.popleft()
        if items:
            self._items[project_id] = items
        return item


class FairLane:
    """A limited number of places. Projects that wait for a place get one in turn."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting = FairQueue[asyncio.Future[None]]()

    @asynccontextmanager
    async def place(self, project_id: UUID | None) -> AsyncIterator[None]:
        """Run the block once there is a place.

        Args:
            project_id: the project that the block works for; None = several projects.
        """
        if self._free:
            self._free -= 1
        else:
            given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.put(project_id, given)
            try:
                await given
            except asyncio.CancelledError:
                if not given.cancelled():
                    self._leave()
                raise
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        """Give the place to the next caller that still waits."""
        while self._waiting:
            given = self._waiting.take()
            if not given.done():
                given.set_result(None)
                return
        self._free += 1
