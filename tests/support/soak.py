"""Calls of every kind to several servers. They must see no error while the servers restart."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from sessiond import AsyncClient, AsyncSession
from sessiond._types.message import Message
from sessiond.errors import SequenceConflict, SessiondError

from ..support.waiting import PATIENCE_S

QUEUE = "soak"
WORDS = " ".join(f"word{number}" for number in range(40))


class Soak:
    """Appends, reads, watches, turns, imports and queue workers, until `stop` is called.

    Args:
        client: a client of all servers.

    Attributes:
        errors: number of errors that callers have seen, by kind of work and error.
        done: how often each kind of work has succeeded.
        stored: the texts of the acknowledged appends, by session and seq.
        turns: the number of turns by the reason with which they ended.
    """

    def __init__(self, client: AsyncClient) -> None:
        self.errors: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.stored: dict[str, dict[int, str]] = {}
        self.seen: dict[str, list[int]] = {}
        self.processed: set[tuple[str, int]] = set()
        self._client = client
        self._is_over = False
        self._loops: list[asyncio.Task[None]] = []
        self._endless: list[asyncio.Task[None]] = []

    async def start(self, *, appenders: int = 6, turns: int = 3) -> None:
        """Begin all work."""
        # Create the queue before the first message, so that it receives all messages.
        await self._client.processing.lease(QUEUE)
        for number in range(appenders):
            session = await self._client.create_session(f"append-{number}")
            self._repeat("append", self._appends(session, is_checked=number % 2 == 0))
            self._endless.append(asyncio.create_task(self._watch(session)))
        for number in range(turns):
            session = await self._client.create_session(f"turn-{number}")
            self._repeat("turn", self._turn_of(session))
        self._repeat("read", self._read)
        self._repeat("list", self._list)
        self._repeat("import", self._import)
        self._endless.append(asyncio.create_task(self._work()))

    async def stop(self) -> None:
        """Wait for the end of running work, and for the arrival of watched and queued messages."""
        self._is_over = True
        await asyncio.gather(*self._loops)
        async with asyncio.timeout(PATIENCE_S):
            while any(
                len(self.seen.get(session_id, ())) < len(stored)
                for session_id, stored in self.stored.items()
            ):
                await asyncio.sleep(0.05)
            appended = {
                (session_id, seq) for session_id, some in self.stored.items() for seq in some
            }
            while not appended <= self.processed:
                await asyncio.sleep(0.05)
        for task in self._endless:
            task.cancel()
        await asyncio.gather(*self._endless, return_exceptions=True)

    async def check(self) -> None:
        """Assert that each acknowledged message is stored once, and was seen once and in order."""
        for session_id, stored in self.stored.items():
            session = await self._client.get_session(session_id)
            found = {
                message.seq: message.content async for message in session.get_messages(after_seq=0)
            }
            assert found == stored, f"{session_id}: {len(stored)} acknowledged, {len(found)} stored"
            assert self.seen[session_id] == sorted(stored), f"{session_id}: watched with gaps"

    def _repeat(self, kind: str, work: Callable[[], Awaitable[None]]) -> None:
        async def loop() -> None:
            while not self._is_over:
                try:
                    await work()
                    self.done[kind] += 1
                except SessiondError as error:
                    self.errors[f"{kind}: {error!s:.200}"] += 1
                await asyncio.sleep(random.uniform(0, 0.02))

        self._loops.append(asyncio.create_task(loop()))

    def _appends(
        self, session: AsyncSession, *, is_checked: bool
    ) -> Callable[[], Coroutine[Any, Any, None]]:
        stored = self.stored[session.session_id] = {}
        numbers = itertools.count(1)

        async def append() -> None:
            text = f"message {next(numbers)}"
            options = {"expected_last_seq": max(stored, default=0)} if is_checked else {}
            try:
                result = await session.store_message({"role": "user", "content": text}, **options)
            except SequenceConflict:
                # A repeated request must not conflict with its own first attempt.
                raise
            stored[result.first_seq] = text

        return append

    async def _watch(self, session: AsyncSession) -> None:
        seen = self.seen[session.session_id] = []
        try:
            async for event in session.events(after_seq=0):
                if event.seq:
                    seen.append(event.seq)
        except SessiondError as error:
            self.errors[f"watch: {error!s:.200}"] += 1

    def _turn_of(self, session: AsyncSession) -> Callable[[], Coroutine[Any, Any, None]]:
        async def turn() -> None:
            answer = await session.send_and_wait(WORDS, options={"echo_delay_ms": 50}, timeout=120)
            assert isinstance(answer, Message)

        return turn

    async def _read(self) -> None:
        session = await self._client.get_session("append-0")
        seqs = [message.seq async for message in session.get_messages(after_seq=0)]
        assert seqs == list(range(1, len(seqs) + 1))

    async def _list(self) -> None:
        assert len(await self._client.list_sessions().to_list()) >= 1

    async def _import(self) -> None:
        session = await self._client.create_session()
        messages = [{"role": "user", "content": f"{number}"} for number in range(300)]
        result = await session.import_messages(messages)
        assert result.last_seq == len(messages)
        await self._client.delete_session(session.session_id)

    async def _work(self) -> None:
        def handle(lease: Any, messages: list[Message]) -> None:
            self.processed |= {(lease.session_id, message.seq) for message in messages}

        try:
            await self._client.processing.work(QUEUE, handle, worker="soak", idle_wait=5)
        except SessiondError as error:
            self.errors[f"work: {error!s:.200}"] += 1
