"""Blocks of code that another task may end with a typed error."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from sessiond_server.core.errors import Fault


class Interruptible:
    """An `async with` block that `interrupt` can end with a Fault, e.g. the handler of a call.

    Args:
        timeout_s: time after which the block ends with TimeoutError. Unit: seconds; None = never.
    """

    __slots__ = ("_fault", "_is_sending", "_scope")

    def __init__(self, timeout_s: float | None = None) -> None:
        self._scope = asyncio.timeout(timeout_s)
        self._fault: Fault | None = None
        self._is_sending = False

    def interrupt(self, fault: Fault) -> None:
        """End the block at once, or after the response that gRPC is currently sending.

        Only the first interruption counts.
        """
        if self._fault is None:
            self._fault = fault
            if not self._is_sending:
                self._scope.reschedule(asyncio.get_running_loop().time())

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
        await self._scope.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._scope.__aexit__(kind, error, traceback)
        except TimeoutError:
            if self._fault and self._scope.expired():
                raise self._fault from None
            raise

    def _check(self) -> None:
        if self._fault:
            raise self._fault
