"""The Python client's errors and retries for limits of projects."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sessiond import AsyncClient, errors
from sessiond._protocol.retry import CallRetry
from sessiond.errors import ProjectLimitReached, QuotaExceeded, RateLimited
from sessiond_server.server import Running

from ..support.waiting import PATIENCE_S
from .conftest import Clock, SetLimits


@pytest.fixture
async def client(server: Running, key: str) -> AsyncIterator[AsyncClient]:
    """A client with the key of the project "p"."""
    async with AsyncClient(f"127.0.0.1:{server.port}", api_key=key) as made:
        yield made


async def test_a_rate_is_a_typed_error_when_the_deadline_is_over(
    client: AsyncClient, set_limits: SetLimits
) -> None:
    session = await client.create_session("a")
    await set_limits(messages_per_second=1)
    await session.store_messages([{"role": "user", "content": "1"}] * 500)
    with pytest.raises(RateLimited) as caught:
        await session.store_message({"role": "user", "content": "2"}, timeout=PATIENCE_S)
    error = caught.value
    assert isinstance(error, ProjectLimitReached)
    assert (error.what, error.limit, error.used) == ("messages_per_second", 1, 500)
    assert error.retry_after == 500


async def test_the_client_waits_for_a_token_within_its_deadline(
    client: AsyncClient, set_limits: SetLimits, clock: Clock
) -> None:
    session = await client.create_session("a")
    await set_limits(messages_per_second=1)
    await session.store_message({"role": "user", "content": "1"})
    storing = asyncio.ensure_future(session.store_message({"role": "user", "content": "2"}))
    await asyncio.wait([storing], timeout=0.2)
    assert not storing.done()
    clock.now += 1
    assert (await storing).last_seq == 2


@pytest.mark.parametrize("retry_after", [None, 0.1])
def test_quotas_are_not_retried(retry_after: float | None) -> None:
    error: Any = QuotaExceeded(retry_after=retry_after)
    assert CallRetry(30).delay_after(error) is None
    assert CallRetry(30).delay_after(RateLimited(retry_after=0.1)) is not None
    assert issubclass(QuotaExceeded, errors.ResourceExhausted)
