"""Asking again, where that is safe: after a fault that passes, while nothing was streamed."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeAlias

from sessiond_server.providers.base import Answer, Delta
from sessiond_server.providers.errors import ProviderFault

Attempt: TypeAlias = Callable[[], AsyncGenerator[Delta | Answer, None]]

BACKOFF_S = 0.5
# A turn that waits holds up all that wait behind it: beyond this the caller decides.
MAX_RETRY_AFTER_S = 8.0


async def retried(attempt: Attempt, *, retries: int) -> AsyncGenerator[Delta | Answer, None]:
    """What the first attempt that succeeds gives.

    Args:
        retries: how many follow the first attempt at most.

    Raises: ProviderFault of the last attempt. At once where something was streamed, the fault does not pass, or the provider
        asks to wait for more than MAX_RETRY_AFTER_S.
    """
    for tried in range(retries + 1):
        streamed = False
        try:
            async with aclosing(attempt()) as pieces:
                async for piece in pieces:
                    streamed = True
                    yield piece
            return
        except ProviderFault as fault:
            after = fault.retry_after_s or 0.0
            if streamed or tried == retries or not fault.is_passing or after > MAX_RETRY_AFTER_S:
                raise
        # Spread, that all who were turned away at once do not come back at once.
        spread = random.uniform(0.5, 1)  # noqa: S311
        await asyncio.sleep(after + BACKOFF_S * 2**tried * spread)
