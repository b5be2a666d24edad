"""A session for tasks."""

from collections.abc import Callable

import pytest

from ..support.wire import Wire

Query = Callable[..., list[tuple[object, ...]]]


@pytest.fixture
async def one(wire: Wire) -> None:
    """A session "one" of five messages."""
    await wire.create("one")
    await wire.store("one", *"abcde")
