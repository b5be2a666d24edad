"""Several deltas are sent as one event, which is encoded once."""

import asyncio
import time
from typing import Any
from uuid import uuid4

import pytest

from sessiond_server.core.events import MESSAGE_DELTA, REASONING_DELTA, Event
from sessiond_server.providers.base import Delta
from sessiond_server.turns.announcements import (
    COALESCE_S,
    LONGEST_COALESCE_S,
    TurnAnnouncements,
)
from sessiond_server.turns.state import RunningTurn

from ..support.quotas import unlimited

pytestmark = pytest.mark.unit


class Publisher:
    """Records the published deltas."""

    def __init__(self) -> None:
        self.deltas: list[tuple[str, str]] = []
        self.came = asyncio.Event()

    def publish(self, event: Event) -> None:
        assert event.data
        self.deltas.append((event.type, event.data["delta_content"]))
        self.came.set()


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


@pytest.fixture
def announcements(publisher: Publisher) -> TurnAnnouncements:
    return TurnAnnouncements(publisher, unlimited())  # type: ignore[arg-type]


@pytest.fixture
def turn() -> RunningTurn:
    options: dict[str, Any] = {}
    return RunningTurn(uuid4(), uuid4(), uuid4(), "one", uuid4(), "m", options, 60, 1, 1, epoch=0)


async def test_the_first_delta_is_published_at_once_and_later_ones_together(
    publisher: Publisher, announcements: TurnAnnouncements, turn: RunningTurn
) -> None:
    for word in ("a", "b", "c", "d"):
        announcements.delta(turn, Delta(word))
    assert publisher.deltas == [(MESSAGE_DELTA, "a")]
    publisher.came.clear()
    await publisher.came.wait()
    assert publisher.deltas == [(MESSAGE_DELTA, "a"), (MESSAGE_DELTA, "bcd")]


async def test_reasoning_and_text_keep_their_order(
    publisher: Publisher, announcements: TurnAnnouncements, turn: RunningTurn
) -> None:
    for number, is_reasoning in enumerate((True, True, False, False, True)):
        announcements.delta(turn, Delta(str(number), is_reasoning))
    announcements.flush(turn)
    assert publisher.deltas == [
        (REASONING_DELTA, "0"),
        (REASONING_DELTA, "1"),
        (MESSAGE_DELTA, "23"),
        (REASONING_DELTA, "4"),
    ]


async def test_halves_of_a_character_are_published_together(
    publisher: Publisher, announcements: TurnAnnouncements, turn: RunningTurn
) -> None:
    announcements.delta(turn, Delta("a\ud83d"))
    announcements.delta(turn, Delta("\ude00b"))
    announcements.flush(turn)
    assert publisher.deltas == [(MESSAGE_DELTA, "a"), (MESSAGE_DELTA, "\N{GRINNING FACE}b")]


async def test_nothing_is_published_after_the_end(
    publisher: Publisher, announcements: TurnAnnouncements, turn: RunningTurn
) -> None:
    announcements.delta(turn, Delta("a"))
    announcements.delta(turn, Delta("b"))
    turn.is_over.set()
    announcements.flush(turn)
    assert publisher.deltas == [(MESSAGE_DELTA, "a")]
    assert turn.flushing is None


async def test_deltas_wait_longer_while_the_process_is_behind(
    announcements: TurnAnnouncements, turn: RunningTurn
) -> None:
    now = asyncio.get_running_loop().time()
    for _ in range(100):
        announcements._flush_due(turn, now - 1)
    assert announcements._coalesce_s == LONGEST_COALESCE_S
    for _ in range(1000):
        announcements._flush_due(turn, now + 1000)
    assert announcements._coalesce_s == COALESCE_S


async def test_a_frozen_text_waits_until_the_freeze_ends(
    publisher: Publisher, announcements: TurnAnnouncements, turn: RunningTurn
) -> None:
    turn.text.frozen_until = time.monotonic() + 3600
    announcements.delta(turn, Delta("a"))
    announcements.delta(turn, Delta("b"))
    announcements.flush(turn)
    assert publisher.deltas == []
    turn.text.frozen_until = 0
    announcements.flush(turn)
    assert publisher.deltas == [(MESSAGE_DELTA, "ab")]
