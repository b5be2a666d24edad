"""Supervision: a failed loop is logged and restarted. Only a cancellation ends it."""

import asyncio

import pytest
from structlog.testing import capture_logs

from sessiond_server.core import supervision
from sessiond_server.core.supervision import supervise

from ..support.waiting import PATIENCE_S


async def test_a_loop_that_fails_is_logged_and_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "FIRST_DELAY_S", 0.001)
    runs = asyncio.Semaphore(0)

    async def failing() -> None:
        runs.release()
        raise ZeroDivisionError

    with capture_logs() as logs:
        task = asyncio.create_task(supervise("a_loop", failing))
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(3):
                await runs.acquire()
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    assert logs[0]["event"] == "background_loop_failed"
    assert logs[0]["loop"] == "a_loop"


async def test_a_loop_that_returns_is_logged_and_restarted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervision, "FIRST_DELAY_S", 0.001)
    runs = asyncio.Semaphore(0)

    async def returning() -> None:
        runs.release()

    with capture_logs() as logs:
        task = asyncio.create_task(supervise("a_loop", returning))
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(3):
                await runs.acquire()
        task.cancel()
        await asyncio.wait([task])
    assert logs[0]["event"] == "background_loop_ended"


async def test_the_delay_doubles_up_to_its_limit_and_starts_again_after_a_stable_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    delays: list[float] = []
    runs = 0
    now = 0.0

    async def sleep(delay_s: float) -> None:
        delays.append(delay_s)

    async def failing() -> None:
        nonlocal runs, now
        runs += 1
        if runs == 9:
            now += supervision.STABLE_S + 1
        if runs == 11:
            raise asyncio.CancelledError
        raise ZeroDivisionError

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now, raising=False)
    with capture_logs(), pytest.raises(asyncio.CancelledError):
        await supervise("a_loop", failing)
    monkeypatch.undo()
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 0.1, 0.2]
