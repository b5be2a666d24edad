"""Answers that are fetched while they are iterated over. The twin is sessiond/_sync/_lazy.py, written by hand as well."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable
from typing import Any, Generic, TypeVar

_Item = TypeVar("_Item")


class AsyncLazy(Generic[_Item]):
    """Items that come from the server as they are asked for.

    `async for item in lazy` takes them one after the other in bounded memory; `await lazy` collects them into a list. Nothing is called
    before the first item is asked for; each iteration calls anew.
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
        """All items."""
        items: list[_Item] = []
        batches = self._batches()
        try:
            async for batch in batches:
                items.extend(batch)
        finally:
            await batches.aclose()
        return items
