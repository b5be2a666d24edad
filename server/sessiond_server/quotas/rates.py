"""Token buckets, which limit rates, and meters, which measure them. Both are in memory."""

from collections.abc import Callable

# Refused callers get different retry times, so that they do not return together. This is the
# longest one.
MAX_WAIT_S = 10.0


class TokenBucket:
    """A bucket that fills at a rate. It holds the tokens of one second, but at least one.

    Args:
        rate: tokens a second.
        clock: returns the time in seconds.
    """

    __slots__ = ("_capacity", "_clock", "_filled_at", "_level", "_promised", "_rate")

    def __init__(self, rate: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._rate = rate
        self._capacity = float(max(rate, 1))
        self._level = self._capacity
        self._filled_at = clock()
        # Time at which the last refused caller may try again.
        self._promised = 0.0

    def take(self, count: int) -> float:
        """Take tokens if the bucket has them.

        If a call needs more tokens than the bucket can hold, a full bucket gives them. Its level is
        then negative, and it gives no tokens until the rate has made up for it.

        Returns:
            0 if the tokens were taken; otherwise the time after which to try again, in seconds.
        """
        now = self._fill()
        needed = min(float(count), self._capacity)
        if self._level >= needed:
            self._level -= count
            return 0.0
        ready = now + (needed - self._level) / self._rate
        promised = max(ready, self._promised + needed / self._rate)
        self._promised = min(promised, max(ready, now + MAX_WAIT_S))
        return self._promised - now

    def take_slowly(self, count: int) -> tuple[int, float]:
        """Take some of the tokens that a long upload needs, and leave half of the bucket to others.

        Returns:
            The number of tokens taken. If it is 0, the second value is the time after which to try
            again, in seconds.
        """
        self._fill()
        share = max(1.0, self._capacity / 4)
        threshold = min(self._capacity, self._capacity / 2 + share)
        if self._level < threshold:
            return 0, (threshold - self._level) / self._rate
        taken = min(count, int(share))
        self._level -= taken
        return taken, 0.0

    def _fill(self) -> float:
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._filled_at) * self._rate)
        self._filled_at = now
        return now


class Meter:
    """Counts events of about the last second.

    Args:
        clock: returns the time in seconds.
    """

    __slots__ = ("_before", "_clock", "_count", "_second")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._second = int(clock())
        self._count = self._before = 0

    def add(self, count: int) -> None:
        """Count events that happen now."""
        self._advance()
        self._count += count

    def rate(self) -> int:
        """Return the number of events of the last second, with a share of the second before."""
        now = self._advance()
        return round(self._count + self._before * (1 - now % 1))

    def _advance(self) -> float:
        now = self._clock()
        second = int(now)
        if second != self._second:
            self._before = self._count if second == self._second + 1 else 0
            self._second, self._count = second, 0
        return now
