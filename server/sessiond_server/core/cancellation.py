"""Detects cancellations that libraries swallow, and completes work despite cancellations."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

_Result = TypeVar("_Result")
_unfinished: set[asyncio.Future[Any]] = set()


def check_cancelled() -> None:
    """Raise CancelledError if the running task has been cancelled.

    In Python 3.11, asyncio.wait_for, which the database driver uses, loses a cancellation that
    arrives together with the awaited result. A call whose client is gone would then wait forever
    for the next piece. It could also mistake a broken stream for a complete one, because gRPC ends
    the iteration in the same way. Only the cancellation of the call tells that the stream is
    broken.
    """
    task = asyncio.current_task()
    if task and task.cancelling():
        raise asyncio.CancelledError


def cancel_started(task: asyncio.Task[None]) -> None:
    """Cancel a task after its first step.

    A task that is cancelled before its first step does not even run its `finally` blocks.
    """
    asyncio.get_running_loop().call_soon(task.cancel)


async def cancel_all(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks, and wait until they have ended."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        # A task may lose a cancellation (see check_cancelled), so cancel it again.
        _, pending = await asyncio.wait(pending, timeout=0.1)


async def run_to_completion(
    work: "Coroutine[Any, Any, _Result] | asyncio.Future[_Result]",
) -> _Result:
    """Wait for work that must be completed even if the caller is cancelled in the meantime.

    Args:
        work: a coroutine or a future, for example the steps that follow a commit.

    Returns:
        The result of the work.
    """
    task = asyncio.ensure_future(work)
    # The event loop keeps only weak references to its tasks.
    _unfinished.add(task)
    task.add_done_callback(_unfinished.discard)
    return await asyncio.shield(task)
