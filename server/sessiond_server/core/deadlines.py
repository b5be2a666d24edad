"""How long the current call may wait for other calls.

A caller whose call lasts until the deadline receives only DEADLINE_EXCEEDED. A waiting call
therefore gives up a little earlier, so that its caller receives the reason.
"""

import asyncio
from contextvars import ContextVar

from sessiond_server.core.errors import Fault

# The time that is left for the response to reach the caller is MARGIN_S, but at most the share
# MARGIN_SHARE of the call's time. Unit of MARGIN_S: seconds.
MARGIN_S = 1.0
MARGIN_SHARE = 0.1

_waits_until: ContextVar[float | None] = ContextVar("waits_until", default=None)


def begin_call(remaining_s: float) -> None:
    """Remember the deadline of the call that the current task handles.

    Args:
        remaining_s: time until the deadline, in seconds.

    Raises:
        Fault: DEADLINE_EXCEEDED if no time is left.
    """
    if remaining_s <= 0:
        raise Fault(
            "DEADLINE_EXCEEDED", "the deadline had passed before the call began; nothing happened"
        )
    now = asyncio.get_running_loop().time()
    _waits_until.set(now + remaining_s - min(MARGIN_S, remaining_s * MARGIN_SHARE))


def waits_until() -> float | None:
    """Return the time of the event loop up to which the call may wait; None = without end."""
    return _waits_until.get()
