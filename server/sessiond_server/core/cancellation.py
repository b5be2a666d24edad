"""Cancellations that somebody on the way has swallowed."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

_Result = TypeVar("_Result")
_unfinished: set[asyncio.Future[Any]] = set()


def check_cancelled() -> None:
    """Raise CancelledError where the running task was asked to stop.

    asyncio.wait_for, on which the database driver waits, loses a cancellation that comes together with its result (Python 3.11). A call
    whose client is gone would then wait for the next piece for ever, or take the end of a broken stream for that of a complete one: gRPC
    makes no difference between the two, but cancels the call.
    """
    task = asyncio.current_task()
    if task and task.cancelling():
        raise asyncio.CancelledError


async def cancel_all(tasks: Iterable[asyncio.Task[None]]) -> None:
    """End tasks that run until they are cancelled."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        # Once is not enough, for the reason that check_cancelled gives: the task goes on.
        _, pending = await asyncio.wait(pending, timeout=0.1)


async def run_to_completion(
    work: "Coroutine[Any, Any, _Result] | asyncio.Future[_Result]",
) -> _Result:
    """Do what has to be done after a commit, although the caller may be cancelled at the commit: then it goes on without him."""
    task = asyncio.ensure_future(work)
    # The event loop itself keeps only weak references to its tasks.
    _unfinished.add(task)
    task.add_done_callback(_unfinished.discard)
    return await asyncio.shield(task)
