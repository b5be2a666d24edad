"""An event loop in a thread, on which all adapters of a process make their calls.

gRPC's asyncio channels belong to one event loop, and work only with asyncio. Frameworks call their
stores from a new loop for each `run_sync()`, from several loops at once, from trio, or without a
loop. So an adapter never calls the server in its caller's loop. It hands a coroutine to the portal,
and waits for the result with the caller's own library.
"""

import asyncio
import atexit
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from sessiond.errors import ClientClosed

_Result = TypeVar("_Result")

Work = Callable[[], Coroutine[Any, Any, _Result]]

# How long the end of the process waits for the portal's last tasks.
_CLOSE_TIMEOUT_S = 5.0


class Portal:
    """A running event loop in a daemon thread.

    Attributes:
        is_used: whether a call was made, after which gRPC does not survive a fork.
    """

    def __init__(self) -> None:
        self.is_used = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = _new_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="sessiond-adapters", daemon=True
        )
        self._thread.start()

    def submit(self, work: Work[_Result]) -> "Future[_Result]":
        """Start work on the loop.

        Args:
            work: makes the coroutine.

        Returns:
            The future of the result. Cancelling it cancels the work.

        Raises:
            ClientClosed: if the process is ending.
            RuntimeError: if called on the portal's own thread, which would wait for itself.
        """
        self._check()
        return asyncio.run_coroutine_threadsafe(work(), self._loop)

    def run(
        self, work: Work[_Result], ended: "Callable[[asyncio.Task[_Result]], None]"
    ) -> Callable[[], None]:
        """Start work on the loop. This costs less than `submit`, but returns no future.

        Args:
            work: makes the coroutine.
            ended: called on the loop with the task that has ended.

        Returns:
            A function that cancels the work. Any thread may call it.

        Raises:
            ClientClosed: if the process is ending.
            RuntimeError: if called on the portal's own thread, which would wait for itself.
        """
        self._check()
        tasks: list[asyncio.Task[_Result]] = []

        def start() -> None:
            tasks.append(self._loop.create_task(work()))
            tasks[0].add_done_callback(ended)

        def stop() -> None:
            tasks[0].cancel()

        def cancel() -> None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(stop)

        self._loop.call_soon_threadsafe(start)
        return cancel

    def _check(self) -> None:
        if threading.current_thread() is self._thread:
            raise RuntimeError("an adapter was called from a callback of one of its own calls")
        if self._loop.is_closed() or not self._thread.is_alive():
            raise ClientClosed("the process is ending")
        self.is_used = True

    def start_soon(self, work: Work[None]) -> None:
        """Start work in the background, from any thread. Does nothing if the process is ending.

        Args:
            work: makes the coroutine. It must not raise.
        """
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(lambda: self._start(work))

    def close(self) -> None:
        """Cancel the running work, close the channels, and end the loop and its thread."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(lambda: self._start(self._end))
        self._thread.join(_CLOSE_TIMEOUT_S)
        if not self._thread.is_alive():
            self._loop.close()

    def _start(self, work: Work[None]) -> None:
        task = self._loop.create_task(work())
        # The loop keeps only weak references to its tasks.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self) -> None:
        try:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for stop in at_close:
                await stop()
        finally:
            self._loop.stop()


def _new_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of uvloop if it is installed: threads wake such a loop in half the time."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


at_close: list[Work[None]] = []
"""Called on the portal's loop when the process ends."""

_portal: Portal | None = None
_lock = threading.Lock()
_is_broken_by_fork = False


def portal() -> Portal:
    """Return the portal of this process, which starts with the first call.

    Raises:
        RuntimeError: if this process was forked from one that had made calls: gRPC's threads are
            not in it, so that every call would hang.
    """
    global _portal  # noqa: PLW0603
    with _lock:
        if _is_broken_by_fork:
            raise RuntimeError(
                "this process was forked after its parent had called sessiond through an adapter, "
                "and gRPC does not survive a fork; fork before the first call, or start processes "
                'with the method "spawn" or "forkserver"'
            )
        if _portal is None:
            _portal = Portal()
        return _portal


def _after_fork() -> None:
    """Forget the parent's portal, whose thread and lock are not those of the child."""
    global _portal, _lock, _is_broken_by_fork  # noqa: PLW0603
    _lock = threading.Lock()
    if _portal is not None:
        _is_broken_by_fork = _portal.is_used
        _portal = None


def shut_down() -> None:
    """End the portal, if there is one. Called when the process ends; adapters fail afterwards."""
    if _portal is not None:
        _portal.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(shut_down)


def stop_soon(stop: Work[None]) -> None:
    """Stop a client of the portal. Called by the garbage collector, on any thread."""
    if _portal is not None and _portal.is_used:
        _portal.start_soon(stop)


def wait(work: Work[_Result]) -> _Result:
    """Do work on the portal, and block the calling thread until it has ended.

    An exception that interrupts the thread, such as KeyboardInterrupt, cancels the work.

    Args:
        work: makes the coroutine.

    Returns:
        Its result.

    Raises:
        Exception: any error that the work raises.
    """
    future = portal().submit(work)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


async def await_(work: Work[_Result], *, settles: bool = False) -> _Result:
    """Do work on the portal, and wait for it in a task of asyncio or of trio.

    Args:
        work: makes the coroutine.
        settles: whether a cancelled caller waits until the work has ended, so that the result of a
            change is known. Otherwise the work is cancelled as well.

    Returns:
        Its result.

    Raises:
        Exception: any error that the work raises.
    """
    if _is_trio():
        return await _await_in_trio(portal().submit(work), settles)
    loop = asyncio.get_running_loop()
    ended: asyncio.Event = asyncio.Event()
    done: list[asyncio.Task[_Result]] = []

    def notify(task: asyncio.Task[_Result]) -> None:
        if not task.cancelled():
            task.exception()  # marks it as retrieved, because the caller may have left
        done.append(task)
        with suppress(RuntimeError):  # the caller's loop was closed in the meantime
            loop.call_soon_threadsafe(ended.set)

    cancel = portal().run(work, notify)
    cancellation: asyncio.CancelledError | None = None
    while not done:
        try:
            await ended.wait()
        except asyncio.CancelledError as error:
            if not settles:
                cancel()
                raise
            cancellation = cancellation or error
    if cancellation is not None:
        raise cancellation
    return done[0].result()


def _is_trio() -> bool:
    """Whether the caller is a task of trio. Does not import trio."""
    trio = sys.modules.get("trio")
    if trio is None:
        return False
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True


async def _await_in_trio(future: "Future[_Result]", settles: bool) -> _Result:
    trio = sys.modules["trio"]
    token = trio.lowlevel.current_trio_token()
    ended = trio.Event()

    def notify(_: object) -> None:
        with suppress(trio.RunFinishedError):  # no task waits any longer
            token.run_sync_soon(ended.set)

    future.add_done_callback(notify)
    try:
        with trio.CancelScope(shield=settles):
            await ended.wait()
    except BaseException:
        future.cancel()
        raise
    if settles:
        # The shield may have delayed a cancellation. If so, this call raises it, and the result is
        # dropped.
        await trio.lowlevel.checkpoint_if_cancelled()
    return future.result()
