"""Keeps background loops running: a loop that fails is logged and restarted."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeAlias

import structlog

from sessiond_server.core.work import begin_work
from sessiond_server.telemetry import metrics

FIRST_DELAY_S, LONGEST_DELAY_S = 0.1, 5.0
# A loop that fails after running for at least this long is restarted with the first delay.
STABLE_S = 60.0

Loop: TypeAlias = Callable[[], Awaitable[None]]

log = structlog.get_logger(__name__)


async def supervise(name: str, run: Loop) -> NoReturn:
    """Run a loop until cancelled, and restart it with a backoff whenever it ends.

    Args:
        name: the loop's name in the log.
        run: starts the loop, which is expected to run until it is cancelled.
    """
    begin_work(name)
    clock = asyncio.get_running_loop().time
    delay_s = FIRST_DELAY_S
    while True:
        started = clock()
        try:
            await run()
            log.error("background_loop_ended", loop=name)
            metrics.LOOP_FAILURES.labels(name).inc()
        except Exception:
            log.exception("background_loop_failed", loop=name)
            metrics.LOOP_FAILURES.labels(name).inc()
        if clock() - started > STABLE_S:
            delay_s = FIRST_DELAY_S
        await asyncio.sleep(delay_s)
        delay_s = min(delay_s * 2, LONGEST_DELAY_S)
