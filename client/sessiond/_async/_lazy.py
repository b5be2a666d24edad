"""Lazy lists. The sync twin is sessiond/_sync/_lazy.py. Both are written by hand."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable
from typing import Any, Generic, TypeVar

_Item = TypeVar("_Item")


class AsyncLazy(Generic[_Item]):
    """A list that is fetched from the server during the iteration.

    `async for item in lazy` fetches the items one after the other, in bounded memory; `await lazy`
    collects them into a list. No call is made until the first item is requested. Each iteration
    calls the server again.
    """

    def __init__(self, batches: Callable[[], AsyncGenerator[Iterable[_Item], None]]) -> None:
        self._batches = batches

    async def __aiter__(self) -> AsyncIterator[_Item]:
        batches = self._batches()
        try:
            async for batch in batches:
                for item in batch:
                    yield item
        finally:
            await batches.aclose()

    def __await__(self) -> Generator[Any, None, list[_Item]]:
        return self.to_list().__await__()

    async def to_list(self) -> list[_Item]:
        """Fetch all items, and return them as a list."""
        items: list[_Item] = []
        batches = self._batches()
        try:
            async for batch in batches:
                items.extend(batch)
        finally:
            await batches.aclose()
        return items
