"""Blocks of code that another task may end with a typed error."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from sessiond_server.core.errors import Fault


class Interruptible:
    """An `async with` block that `interrupt` can end with a Fault, e.g. the handler of a call.

    It cancels its task as asyncio.timeout() does, but is entered and left in a third of the time.

    Args:
        timeout_s: time after which the block ends with TimeoutError. Unit: seconds; None = never.
    """

    __slots__ = ("_cancelling", "_fault", "_has_ended", "_is_sending", "_task", "_timeout_s",
                 "_timer")  # fmt: skip

    def __init__(self, timeout_s: float | None = None) -> None:
        self._timeout_s = timeout_s
        self._fault: Fault | None = None
        self._is_sending = False
        # Whether the task was cancelled by this object.
        self._has_ended = False
        self._timer: asyncio.Handle | None = None
        # The task of the block, and its cancelling() when the block was entered.
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0

    def interrupt(self, fault: Fault) -> None:
        """End the block at once, or after the response that gRPC is currently sending.

        Only the first interruption counts.
        """
        if self._fault is None:
            self._fault = fault
            if self._task and not (self._is_sending or self._has_ended):
                self._cancel_timer()
                self._timer = asyncio.get_running_loop().call_soon(self._end)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Delay an interruption until gRPC has sent a response.

        An error raised within gRPC would lose its reason.

        Raises:
            Fault: the fault passed to `interrupt`, if it was called before or during this block.
        """
        self._check()
        self._is_sending = True
        try:
            yield
        finally:
            self._is_sending = False
        self._check()

    async def __aenter__(self) -> "Interruptible":
        self._begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(kind)

    def _begin(self) -> None:
        """Enter the block."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self._task, self._cancelling = task, task.cancelling()
        if self._timeout_s is not None:
            self._timer = asyncio.get_running_loop().call_later(max(self._timeout_s, 0), self._end)

    def _leave(self, kind: type[BaseException] | None) -> None:
        """Leave the block.

        Args:
            kind: the type of the exception that the block raised; None = none.

        Raises:
            Fault: the fault passed to `interrupt`, if it ended the block.
            TimeoutError: if the timeout ended the block.
        """
        self._cancel_timer()
        task, self._task = self._task, None
        if self._has_ended and task:
            # If other code has cancelled the task too, the cancellation goes on.
            is_ours = task.uncancel() <= self._cancelling
            if is_ours and kind is asyncio.CancelledError:
                raise (self._fault or TimeoutError()) from None

    def _end(self) -> None:
        self._timer = None
        if self._task:
            self._has_ended = True
            self._task.cancel()

    def _cancel_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        if self._fault:
            raise self._fault
