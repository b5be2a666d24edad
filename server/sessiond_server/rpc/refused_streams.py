"""The rest of a client's stream that is refused."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

# After refusing a client's stream, the server keeps reading it within these limits of time and
# size.
DRAIN_TIMEOUT_S = 5.0
DRAIN_IDLE_S = 0.5
DRAIN_BYTES = 64 * 1024 * 1024


async def drain_requests(requests: AsyncIterator[bytes]) -> None:
    """Keep reading a client's stream that is refused, within limits.

    Some clients, such as Python's asyncio client, lose a response that arrives while they are
    writing.
    """
    taken = 0
    with suppress(TimeoutError, StopAsyncIteration):
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            while taken < DRAIN_BYTES:
                async with asyncio.timeout(DRAIN_IDLE_S):
                    taken += len(await anext(requests))
