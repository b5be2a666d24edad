"""Retries after transient faults, as long as nothing was streamed."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeAlias

from sessiond_server.providers.base import Answer, Delta
from sessiond_server.providers.errors import ProviderFault

Attempt: TypeAlias = Callable[[], AsyncGenerator[Delta | Answer, None]]

BACKOFF_S = 0.5
# A waiting turn delays the turns queued behind it. If a provider requests a longer wait, the turn
# fails, and the caller decides.
MAX_RETRY_AFTER_S = 8.0


async def with_retries(attempt: Attempt, *, retries: int) -> AsyncGenerator[Delta | Answer, None]:
    """Try until an attempt succeeds.

    Args:
        attempt: starts an attempt.
        retries: the maximum number of attempts after the first.

    Yields:
        The pieces of the successful attempt.

    Raises:
        ProviderFault: from the last attempt; at once, without further attempts, if something was
            streamed, if the fault is not transient, or if the provider requests a wait of more than
            MAX_RETRY_AFTER_S.
    """
    for count in range(retries + 1):
        streamed = False
        try:
            async with aclosing(attempt()) as pieces:
                async for piece in pieces:
                    streamed = True
                    yield piece
            return
        except ProviderFault as fault:
            after = fault.retry_after_s or 0.0
            if streamed or count == retries or not fault.is_transient or after > MAX_RETRY_AFTER_S:
                raise
        # The jitter prevents requests that were rejected together from returning together.
        jitter = random.uniform(0.5, 1)  # noqa: S311
        await asyncio.sleep(after + BACKOFF_S * 2**count * jitter)
