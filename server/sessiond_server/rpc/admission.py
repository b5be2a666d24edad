"""Admission: limits the number of concurrent calls, and ends them during a drain."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from uuid import UUID

from sessiond_server.core.errors import Fault
from sessiond_server.core.interruption import Interruptible
from sessiond_server.core.memory import Memory
from sessiond_server.telemetry import metrics

# These calls last as long as clients keep them open. They have a limit of their own, and are never
# logged as slow.
STREAMING_RPCS = frozenset({"Watch", "Send"})

# These calls carry messages and files. They are refused while memory is short.
LARGE_RPCS = frozenset(
    {
        "StoreMessages",
        "BatchStoreMessages",
        "ImportMessages",
        "ImportSession",
        "RewindSession",
        "UploadAsset",
        "Send",
    }
)

# While calls are held, the server counts as quiet when no call has arrived for QUIET_S. Callers
# that wait for each response fall silent within milliseconds. Other callers may never fall silent,
# so calls are held for at most MAX_HOLD_S.
QUIET_S = 0.05
MAX_HOLD_S = 0.5

# The streams of a server end together when it shuts down. Each client waits for a random time
# before it reconnects: up to one second for each STREAMS_A_SECOND streams, at most MAX_SPREAD_S.
MIN_RETRY_S = 0.1
STREAMS_A_SECOND = 1000
MAX_SPREAD_S = 5.0


class _Running(Interruptible):
    """A context manager that adds itself to a set, and removes itself after its block.

    It is a class, because a context manager made from a generator takes twice as long for each
    call.
    """

    __slots__ = ("_all",)

    def __init__(self, all_running: set[Interruptible], timeout_s: float | None) -> None:
        super().__init__(timeout_s)
        self._all = all_running

    async def __aenter__(self) -> Interruptible:
        self._all.add(self)
        self._begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._all.discard(self)
        self._leave(kind)


class Admission:
    """Counts the calls in this process, and refuses calls above the limits.

    Args:
        max_calls: limit for `calls`.
        max_streams: limit for `streams`.
        memory: tells whether memory is short.
        max_imports: maximum number of concurrent imports.

    Attributes:
        memory: tells whether memory is short.
        calls: number of calls in progress that are not in `streams`.
        streams: number of calls of STREAMING_RPCS in progress.
        is_draining: whether the server is shutting down.
    """

    def __init__(
        self, max_calls: int, max_streams: int, memory: Memory, *, max_imports: int
    ) -> None:
        self.memory = memory
        self._max_imports = max_imports
        self._imports = Counter[UUID]()
        self.calls = 0
        self.streams = 0
        self.is_draining = False
        self._max_calls = max_calls
        self._max_streams = max_streams
        self._running: set[Interruptible] = set()
        self._arrived = 0
        # Set = new calls begin at once.
        self._gate = asyncio.Event()
        self._gate.set()

    def begin(self, method: str) -> None:
        """Count a call that has arrived, whether it is admitted or not."""
        self._arrived += 1
        self._count(method, 1)

    @property
    def is_holding(self) -> bool:
        """Whether calls are held. A call that has begun must then await `until_released`."""
        return not self._gate.is_set()

    async def until_released(self, method: str) -> None:
        """Wait while calls are held. If the waiting call is cancelled, it is no longer counted."""
        try:
            await self._gate.wait()
        except BaseException:
            self._count(method, -1)
            raise

    @property
    def imports(self) -> int:
        """Number of imports in progress."""
        return self._imports.total()

    def end(self, method: str) -> None:
        """Stop counting a call."""
        self._count(method, -1)

    def running(self, timeout_s: float | None = None) -> Interruptible:
        """Return a context manager for the handling of a call, which interrupt_all() may end.

        Args:
            timeout_s: see Interruptible.
        """
        return _Running(self._running, timeout_s)

    def admit(self, method: str) -> None:
        """Check whether a call that has begun may continue.

        Raises:
            Fault: OVERLOADED if more calls of this kind are in progress than the limit allows, or
                if memory is too short for the call.
        """
        if self.memory.is_short and method in LARGE_RPCS:
            raise Fault(
                "OVERLOADED",
                "this server is short of memory and refuses messages and files for now; try again",
                retry_after_s=1.0,
            )
        if method in STREAMING_RPCS:
            count, limit, kind = self.streams, self._max_streams, "watches and sends"
        else:
            count, limit, kind = self.calls, self._max_calls, "calls"
        if count > limit:
            raise Fault(
                "OVERLOADED",
                f"this server has reached its limit of {limit} {kind}; try again",
                retry_after_s=0.5,
            )

    @contextmanager
    def importing(self, project_id: UUID) -> Iterator[None]:
        """Count an import for the duration of the block.

        A project may use half of the imports, so that a project with slow clients or low limits
        does not block the imports of others.

        Raises:
            Fault: OVERLOADED if the maximum number of imports is reached.
        """
        share = max(1, self._max_imports // 2)
        if self.imports >= self._max_imports:
            whose, limit = "this server has reached its limit", self._max_imports
        elif self._imports[project_id] >= share:
            whose, limit = "the project has reached its share at this server", share
        else:
            self._imports[project_id] += 1
            try:
                with metrics.IMPORTS_RUNNING.track_inprogress():
                    yield
            finally:
                self._imports[project_id] -= 1
                if not self._imports[project_id]:
                    del self._imports[project_id]
            return
        raise Fault(
            "OVERLOADED", f"{whose} of {limit} imports at a time; try again", retry_after_s=1.0
        )

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Hold all calls that arrive during the block, and let them begin at its end."""
        self._gate.clear()
        try:
            yield
        finally:
            self._gate.set()

    async def wait_until_quiet(self) -> None:
        """Wait until no more calls arrive, for at most MAX_HOLD_S."""
        clock = asyncio.get_running_loop().time
        end = clock() + MAX_HOLD_S
        arrived = -1
        while arrived != self._arrived and clock() < end:
            arrived = self._arrived
            await asyncio.sleep(QUIET_S)

    def check_draining(self) -> None:
        """Check between two responses whether a long stream may continue.

        Raises:
            Fault: SERVER_DRAINING if the server is shutting down.
        """
        if self.is_draining:
            raise self._draining(
                "this server is shutting down; continue on another one, from the last "
                "resume_token or seq"
            )

    def interrupt_all(self) -> None:
        """End all calls in progress with SERVER_DRAINING."""
        fault = self._draining(
            "this server is shutting down and cannot wait for the end of the call; a change may or "
            "may not have happened: repeat it with the same request_id"
        )
        for running in list(self._running):
            running.interrupt(fault)

    def _draining(self, text: str) -> Fault:
        spread_s = min(self.streams / STREAMS_A_SECOND, MAX_SPREAD_S)
        retry_after_s = MIN_RETRY_S + random.uniform(0, spread_s)  # noqa: S311 - not a secret
        return Fault("SERVER_DRAINING", text, retry_after_s=retry_after_s)

    def _count(self, method: str, change: int) -> None:
        if method in STREAMING_RPCS:
            self.streams += change
        else:
            self.calls += change
