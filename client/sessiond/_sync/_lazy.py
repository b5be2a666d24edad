"""Lazy lists. The async twin is sessiond/_async/_lazy.py. Both are written by hand."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class Lazy(Generic[_Item]):
    """A list that is fetched from the server during the iteration.

    `for item in lazy` fetches the items one after the other, in bounded memory; `lazy.to_list()`
    collects them into a list. No call is made until the first item is requested. Each iteration
    calls the server again.
    """

    def __init__(self, batches: Callable[[], Generator[Iterable[_Item], None, None]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[_Item]:
        with closing(self._batches()) as batches:
            for batch in batches:
                yield from batch

    def to_list(self) -> list[_Item]:
        """Fetch all items, and return them as a list."""
        items: list[_Item] = []
        with closing(self._batches()) as batches:
            for batch in batches:
                items.extend(batch)
        return items
