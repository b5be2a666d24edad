"""Calls of every kind at an even pace, which delete all that they create."""

import asyncio
import itertools
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

from sessiond import AsyncClient, AsyncSession
from sessiond.errors import ApiKeyInvalid, ApiKeyMissing, SessionNotFound, TurnAborted

UNKNOWN_KEY = f"sk-sessiond-{'0' * 16}-{'A' * 43}"
TEXT = " ".join(f"word{number}" for number in range(100))
FILE_BYTES = 1024 * 1024
IMPORTED = 1000
# The long-lived session is emptied at this length.
LONG = 400


class MixedLoad:
    """Visitors. Each connects, makes every kind of call with its own session, and deletes it.

    In addition, one session exists during the whole load. It is appended to, watched, and cleared.

    Args:
        target: the server, which requires keys.
        key: a key of a project.
        model: a model of a provider over HTTP. Other turns use the model echo.
        visitors: the number of concurrent visitors.
        pause_s: mean time between two steps of a visitor, in seconds.

    Attributes:
        done: how often each step has succeeded.
    """

    def __init__(
        self, target: str, key: str, model: str, *, visitors: int = 2, pause_s: float = 0.5
    ) -> None:
        self.done: Counter[str] = Counter()
        self._target = target
        self._key = key
        self._model = model
        self._visitors = visitors
        self._pause_s = pause_s
        self._numbers = itertools.count()
        self._is_over = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        visitors = [self._visits() for _ in range(self._visitors)]
        self._tasks = [asyncio.create_task(work) for work in (*visitors, self._lives_long())]

    async def run(self, seconds: float) -> None:
        """Continue for some time; raise the error of a visitor at once."""
        waiting = asyncio.create_task(asyncio.sleep(seconds))
        done, _ = await asyncio.wait([waiting, *self._tasks], return_when="FIRST_COMPLETED")
        waiting.cancel()
        for task in done - {waiting}:
            task.result()

    async def stop(self) -> None:
        """Wait for the end of running visits."""
        self._is_over.set()
        await asyncio.gather(*self._tasks)

    async def _visits(self) -> None:
        while not self._is_over.is_set():
            await self._visit(f"visit-{next(self._numbers)}")

    async def _visit(self, name: str) -> None:
        async with AsyncClient(self._target, api_key=self._key) as client:
            session = await client.create_session(name, metadata={"visit": name})
            steps: list[Callable[[AsyncClient, AsyncSession], Awaitable[None]]] = [
                self._append,
                self._append_many,
                self._read,
                self._watch,
                self._echo,
                self._ask,
                self._abort,
                self._copy,
                self._rewind,
                self._import,
                self._export,
                self._list,
                self._attach,
                self._be_refused,
                self._cancel,
                self._annotate,
            ]
            random.shuffle(steps)
            # Store the history that the other steps read.
            await self._append_many(client, session)
            for step in steps:
                await step(client, session)
                self.done[step.__name__.strip("_")] += 1
                await asyncio.sleep(random.uniform(0, 2 * self._pause_s))
            await session.delete()
            self.done["visit"] += 1

    async def _append(self, _: AsyncClient, session: AsyncSession) -> None:
        for number in range(10):
            await session.store_message({"role": "user", "content": f"{number} {TEXT}"})

    async def _append_many(self, _: AsyncClient, session: AsyncSession) -> None:
        await session.store_messages([{"role": "user", "content": TEXT}] * 50)

    async def _read(self, _: AsyncClient, session: AsyncSession) -> None:
        assert await session.get_messages().to_list()

    async def _watch(self, _: AsyncClient, session: AsyncSession) -> None:
        async with aclosing(aiter(session.events(after_seq=0))) as events:
            await session.store_message({"role": "user", "content": "watched"})
            async for event in events:
                if event.data.get("content") == "watched" or event.seq:
                    break

    async def _echo(self, _: AsyncClient, session: AsyncSession) -> None:
        assert (await session.send_and_wait(TEXT, model="echo")).content

    async def _ask(self, _: AsyncClient, session: AsyncSession) -> None:
        assert (await session.send_and_wait(TEXT, model=self._model)).content

    async def _abort(self, _: AsyncClient, session: AsyncSession) -> None:
        sent = await session.send(TEXT, model="echo", options={"echo_delay_ms": 1000})
        await session.abort(sent.turn_id)
        try:
            await session.wait_for_turn(sent.turn_id)
        except TurnAborted:
            return
        raise AssertionError("an aborted turn has an answer")

    async def _copy(self, _: AsyncClient, session: AsyncSession) -> None:
        copy = await session.copy()
        await copy.store_message({"role": "user", "content": "only in the copy"})
        await copy.delete()

    async def _rewind(self, _: AsyncClient, session: AsyncSession) -> None:
        await session.rewind(drop_last=5, messages=[{"role": "user", "content": "instead"}])

    async def _import(self, client: AsyncClient, session: AsyncSession) -> None:
        imported = await client.create_session(f"{session.session_id}-imported")
        await imported.import_messages(
            {"role": "user", "content": f"{number} {TEXT}"} for number in range(IMPORTED)
        )
        assert len(await imported.get_messages().to_list()) == IMPORTED
        # This reader leaves in the middle of its stream.
        async with aclosing(aiter(imported.get_messages())) as messages:
            await anext(messages)
        await imported.delete()

    async def _export(self, client: AsyncClient, session: AsyncSession) -> None:
        exported = await session.export()
        name = f"{session.session_id}-exported"
        await client.sessions.import_session(exported, name)
        await client.delete_session(name)

    async def _list(self, client: AsyncClient, session: AsyncSession) -> None:
        found = await client.list_sessions(
            metadata_contains={"visit": session.session_id}
        ).to_list()
        assert session.session_id in {one.session_id for one in found}

    async def _attach(self, client: AsyncClient, session: AsyncSession) -> None:
        # Random bytes make each file unique, so the sweeper removes it with its session.
        asset = await client.assets.upload(os.urandom(FILE_BYTES), media_type="application/x-any")
        content = [{"type": "text", "text": f"a file: {asset.uri}"}]
        await session.store_message({"role": "user", "content": content})
        assert len(await client.assets.read(asset.asset_id)) == FILE_BYTES

    async def _be_refused(self, _: AsyncClient, session: AsyncSession) -> None:
        for key, error in ((None, ApiKeyMissing), (UNKNOWN_KEY, ApiKeyInvalid)):
            async with AsyncClient(self._target, api_key=key) as stranger:
                try:
                    await stranger.sessions.store_message(
                        session.session_id, {"role": "user", "content": TEXT * 1000}
                    )
                except error:
                    continue
                raise AssertionError("a stranger may append")

    async def _cancel(self, client: AsyncClient, session: AsyncSession) -> None:
        # The watch runs until it is cancelled. The other calls are cancelled at any point.
        async def watch() -> None:
            async for _ in session.events():
                pass

        async def read() -> None:
            await session.get_messages().to_list()

        async def look() -> None:
            await client.get_session(session.session_id)

        tasks = [asyncio.create_task(call()) for call in (watch, read, look) for _ in range(3)]
        await asyncio.sleep(random.uniform(0, 0.05))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _annotate(self, client: AsyncClient, session: AsyncSession) -> None:
        task = await session.tasks.create(data={"goal": "a"})
        await session.tasks.update(task.task_id, status="running")
        await session.bookmarks.create("here")
        await session.update(metadata_patch={"seen": True})
        await session.get_token_counts()
        try:
            await client.get_session(f"{session.session_id}-absent")
        except SessionNotFound:
            return
        raise AssertionError("a session that nobody has created is found")

    async def _lives_long(self) -> None:
        async with AsyncClient(self._target, api_key=self._key) as client:
            session = await client.create_session("long-lived")
            seen: list[Any] = []

            async def watch() -> None:
                async for event in session.events():
                    seen[:] = [event.seq]

            watching = asyncio.create_task(watch())
            while not self._is_over.is_set() and not watching.done():
                stored = await session.store_message({"role": "user", "content": TEXT})
                if stored.last_seq >= LONG:
                    await session.clear()
                    self.done["clear"] += 1
                await asyncio.sleep(self._pause_s)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            assert seen
            await session.delete()
