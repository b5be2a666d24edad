"""Waiting for what happens elsewhere: asked again and again, with an end. Nothing is concluded from how long it takes."""

import asyncio
import time
from collections.abc import Callable

PATIENCE_S = 120.0
INTERVAL_S = 0.02


def until(condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Return when the condition holds. Fails the test if it never does."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(INTERVAL_S)


async def until_async(condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """The same, while the event loop goes on."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"waited in vain until {what}"
        await asyncio.sleep(INTERVAL_S)
