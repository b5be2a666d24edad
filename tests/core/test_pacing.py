"""Background work: batches of about the same duration, each followed by a pause."""

import pytest

from sessiond_server.core import pacing
from sessiond_server.core.pacing import MAX_PAUSE_S, TARGET_S, Pace


class Clock:
    """A clock that only tests move.

    Attributes:
        pauses: pauses in seconds, in order.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def run(self, pace: Pace, per_item_s: float, items: int = 10**6) -> int:
        """Run a batch of work with a given cost. Return the size of the batch."""
        async with pace.batch() as batch:
            batch.done = min(items, batch.size)
            self.now += batch.done * per_item_s
        return batch.size


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(pacing, "monotonic", lambda: made.now)
    monkeypatch.setattr(pacing, "sleep", made.sleep)
    return made


async def test_batches_grow_to_the_time_that_they_may_take(clock: Clock) -> None:
    pace = Pace(5_000)
    sizes = [await clock.run(pace, TARGET_S / 3_000) for _ in range(4)]
    assert sizes == [1_000, 2_000, 3_000, 3_000]


async def test_batches_shrink_while_others_slow_them_down(clock: Clock) -> None:
    pace = Pace(5_000)
    for _ in range(4):
        await clock.run(pace, TARGET_S / 8_000)
    sizes = [await clock.run(pace, TARGET_S / 1_500) for _ in range(3)]
    assert sizes == [5_000, 2_500, 1_500]
    # No batch is so small that it would mostly consist of round trips.
    sizes = [await clock.run(pace, TARGET_S) for _ in range(2)]
    assert sizes == [1_500, 1_000]


async def test_a_batch_that_is_not_full_says_little_of_full_ones(clock: Clock) -> None:
    pace = Pace(5_000)
    sizes = [await clock.run(pace, TARGET_S / 10_000, items=3) for _ in range(3)]
    assert sizes == [1_000, 1_000, 1_000]


async def test_a_pause_is_as_long_as_the_batch_before_it(clock: Clock) -> None:
    pace = Pace(5_000)
    await clock.run(pace, TARGET_S / 1_000)
    await clock.run(pace, TARGET_S / 500)
    await clock.run(pace, 1.0)
    assert clock.pauses == pytest.approx([TARGET_S, 2 * TARGET_S, MAX_PAUSE_S])


async def test_nothing_done_needs_no_pause(clock: Clock) -> None:
    await clock.run(Pace(5_000), TARGET_S, items=0)
    assert clock.pauses == []


async def test_the_smallest_batch_has_one_item(clock: Clock) -> None:
    pace = Pace(1)
    assert [await clock.run(pace, 1.0) for _ in range(2)] == [1, 1]


async def test_fast_batches_keep_to_the_rate(clock: Clock) -> None:
    pace = Pace(100, pause_share=0.25, most_per_s=1_000)
    sizes = [await clock.run(pace, 0.0001) for _ in range(3)]
    assert sizes == [20, 40, 80]
    # A batch and its pause take a millisecond for each item.
    assert clock.pauses == pytest.approx([0.018, 0.036, 0.072])


async def test_slow_batches_have_only_the_usual_pauses(clock: Clock) -> None:
    pace = Pace(100, pause_share=0.25, most_per_s=1_000)
    await clock.run(pace, 0.002)
    assert clock.pauses == pytest.approx([0.01])
