"""Answers that are fetched while they are iterated over. The twin is sessiond/_async/_lazy.py, written by hand as well."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class Lazy(Generic[_Item]):
    """Items that come from the server as they are asked for.

    `for item in lazy` takes them one after the other in bounded memory; `lazy.to_list()` collects them. Nothing is called before the
    first item is asked for; each iteration calls anew.
    """

    def __init__(self, batches: Callable[[], Generator[Iterable[_Item], None, None]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[_Item]:
        with closing(self._batches()) as batches:
            for batch in batches:
                yield from batch

    def to_list(self) -> list[_Item]:
        """All items."""
        items: list[_Item] = []
        with closing(self._batches()) as batches:
            for batch in batches:
                items.extend(batch)
        return items
