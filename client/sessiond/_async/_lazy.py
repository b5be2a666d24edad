"""Lazy lists. The twin is sessiond/_sync/_lazy.py, written by hand too."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable
from typing import Any, Generic, TypeVar

_Item = TypeVar("_Item")


class AsyncLazy(Generic[_Item]):
    """A list that is fetched from the server during the iteration.

    `async for item in lazy` takes the items one after the other, in bounded memory; `await lazy`
    collects them into a list. Nothing is called before the first item is taken; each iteration
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
