"""Uploads and imports whose source hangs before its end."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sessiond import AssetMismatch, AsyncClient, DeadlineExceeded
from sessiond_server.server import Running

PIECE = b"x" * 600_000
# More than one request of an import, so that the server gets some of it.
MESSAGES = [{"role": "user", "content": "x" * 9_000}] * 50


class Stuck:
    """A source that yields its items and then waits for ever.

    Attributes:
        is_closed: whether the source was closed.
        waits: set once it waits.
    """

    def __init__(self, *items: Any) -> None:
        self.is_closed = False
        self.waits = asyncio.Event()
        self._items = items

    async def items(self) -> AsyncIterator[Any]:
        """Yield the items."""
        try:
            for item in self._items:
                yield item
            self.waits.set()
            await asyncio.Event().wait()
        finally:
            self.is_closed = True


@pytest.fixture
async def client(server: Running) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        yield client


@pytest.mark.parametrize("pieces", [(), (PIECE,)])
async def test_a_timeout_ends_an_upload(client: AsyncClient, pieces: tuple[bytes, ...]) -> None:
    source = Stuck(*pieces)
    with pytest.raises(DeadlineExceeded):
        await client.assets.upload(source.items(), timeout=0.2)
    assert source.is_closed or not source.waits.is_set()


async def test_a_refusal_ends_an_upload(client: AsyncClient) -> None:
    source = Stuck(PIECE)
    with pytest.raises(AssetMismatch):
        await client.assets.upload(source.items(), size=5)
    assert source.is_closed


async def test_an_import_that_ends_before_its_source_stores_nothing(client: AsyncClient) -> None:
    for is_cancelled in (True, False):
        session = await client.create_session()
        source = Stuck(*MESSAGES)
        timeout = None if is_cancelled else 0.2
        importing = asyncio.create_task(session.import_messages(source.items(), timeout=timeout))
        if is_cancelled:
            await source.waits.wait()
            importing.cancel()
        with pytest.raises(asyncio.CancelledError if is_cancelled else DeadlineExceeded):
            await importing
        assert source.is_closed
        # The session takes no other append before the import has ended.
        assert (await session.store_message({"role": "user", "content": "x"})).first_seq == 1
