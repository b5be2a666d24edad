"""Polls for conditions, with a deadline that is reached only if something hangs."""

import asyncio
import time
from collections.abc import Callable

import psycopg

PATIENCE_S = 120.0
INTERVAL_S = 0.02


def until(condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Return when the condition holds. Fails the test if it never does."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(INTERVAL_S)


async def until_async(
    condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S
) -> None:
    """Like until(), but without blocking the event loop."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"waited in vain until {what}"
        await asyncio.sleep(INTERVAL_S)


def waiting_for_locks(observer: psycopg.Connection) -> int:
    """Return how many statements wait for a lock, as an autocommit connection sees it."""
    [(count,)] = observer.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ).fetchall()
    assert isinstance(count, int)
    return count


async def until_waiting(database_url: str, count: int = 1) -> None:
    """Return when `count` statements wait for a lock. They must not give up soon: see locks.py."""
    with psycopg.connect(database_url, autocommit=True) as observer:
        await until_async(lambda: waiting_for_locks(observer) == count, f"{count} wait for a lock")
