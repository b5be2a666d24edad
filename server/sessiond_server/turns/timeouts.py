"""The timeout of a turn."""

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

from sessiond_server.core.cancellation import cancel_all
from sessiond_server.core.errors import Fault
from sessiond_server.turns.state import RunningTurn

T = TypeVar("T")


async def in_time(running: RunningTurn, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of a turn's work, which is cancelled if the turn ends or times out.

    Raises:
        Fault: TURN_TIMED_OUT if the turn timed out or was ended meanwhile.
    """
    call = asyncio.create_task(work)
    over = asyncio.create_task(running.is_over.wait())
    try:
        done: Collection[asyncio.Future[Any]] = ()
        while not done and running.remaining_s:
            # The deadline moves while the turn waits for other turns.
            done, _ = await asyncio.wait(
                (call, over), timeout=running.remaining_s, return_when=asyncio.FIRST_COMPLETED
            )
        if call.done():
            return call.result()
        raise Fault(
            "TURN_TIMED_OUT",
            f"the turn took longer than {running.timeout_s:g} seconds",
            metadata={"timeout_s": f"{running.timeout_s:g}"},
        )
    finally:
        await cancel_all((call, over))  # type: ignore[arg-type]
