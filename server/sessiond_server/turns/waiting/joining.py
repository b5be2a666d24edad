"""Answers the requests of many callers with one statement."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeAlias, TypeVar
from uuid import UUID

from sessiond_server.core.cancellation import cancel_all
from sessiond_server.core.work import begin_work
from sessiond_server.turns.waiting.fair import FairQueue
from sessiond_server.turns.waiting.lanes import TurnLanes

# Maximum number of requests in a statement.
MAX_TOGETHER = 32

# While this many statements run, further requests wait, and then share a statement.
MAX_STATEMENTS = 2

Asked = TypeVar("Asked")
Found = TypeVar("Found")
Answer: TypeAlias = Callable[[Sequence[Asked]], Awaitable[Sequence[Found]]]


class Joiner(Generic[Asked, Found]):
    """Answers requests of one kind.

    A request that arrives alone is answered at once. A request that arrives while others are being
    answered waits. The waiting requests are then answered together, one of each project in turn.
    """

    def __init__(self, answer: Answer[Asked, Found], lanes: TurnLanes) -> None:
        """Create the empty queue.

        Args:
            answer: answers some requests, in their order. If it raises an error, each caller gets
                the error.
            lanes: each statement takes a place in the lane for Sends.
        """
        self._answer = answer
        self._lanes = lanes
        self._waiting = FairQueue[tuple[Asked, asyncio.Future[Found]]]()
        self._running = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Cancel the requests that wait, and the statements that are running."""
        while self._waiting:
            self._waiting.take()[1].cancel()
        await cancel_all(self._tasks)

    async def ask(self, project_id: UUID, asked: Asked) -> Found:
        """Return the answer to a request of a project."""
        with self._lanes.starting():
            if self._running < MAX_STATEMENTS:
                # There is no request to join, so the caller's own task runs the statement.
                self._running += 1
                try:
                    async with self._lanes.starts.place(project_id):
                        return (await self._answer([asked]))[0]
                finally:
                    self._ended()
            future: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
            self._waiting.put(project_id, (asked, future))
            return await future

    def _ended(self) -> None:
        """Start the next statement if requests wait."""
        if self._waiting:
            # The context is empty, because no single caller's deadline or trace applies.
            task = asyncio.create_task(self._run(), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._running -= 1

    async def _run(self) -> None:
        """Answer waiting requests, at most MAX_TOGETHER of them, with one statement."""
        begin_work("Send")
        together: list[tuple[Asked, asyncio.Future[Found]]] = []
        try:
            async with self._lanes.starts.place(None):
                while self._waiting and len(together) < MAX_TOGETHER:
                    asked, future = self._waiting.take()
                    if not future.done():
                        together.append((asked, future))
                if not together:
                    return
                found = await self._answer([asked for asked, _ in together])
            for (_, future), one in zip(together, found, strict=True):
                if not future.done():
                    future.set_result(one)
                    await self._lanes.let_sends_arrive()
        except Exception as error:
            for _, future in together:
                if not future.done():
                    future.set_exception(error)
        finally:
            for _, future in together:
                future.cancel()  # has no effect unless this task was cancelled
            self._ended()
