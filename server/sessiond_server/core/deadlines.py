"""How long the current call may wait for others in memory.

A caller whose call lasts until the deadline only receives DEADLINE_EXCEEDED. So the call gives up a
little earlier, and its caller receives the reason.
"""

import asyncio
from contextvars import ContextVar

# Time for the answer to travel.
MARGIN_S = 1.0
MARGIN_SHARE = 0.1

_waits_until: ContextVar[float | None] = ContextVar("waits_until", default=None)


def begin_call(remaining_s: float) -> None:
    """Remember the deadline of the call that the current task handles.

    Args:
        remaining_s: time until the deadline, in seconds.
    """
    now = asyncio.get_running_loop().time()
    _waits_until.set(now + remaining_s - min(MARGIN_S, remaining_s * MARGIN_SHARE))


def waits_until() -> float | None:
    """Return the time of the event loop up to which the call may wait; None = without end."""
    return _waits_until.get()
