"""When a call is tried again, and how long it waits until then. No I/O in here."""

import math
import random
import time

from sessiond._protocol.status import is_broken_stream, is_worth_retrying
from sessiond.errors import DeadlineExceeded, SessiondError, invalid_field

LONGEST_TIMEOUT_S = 365 * 24 * 3600.0

MAX_ATTEMPTS = 6
FIRST_DELAY_S = 0.1
MAX_DELAY_S = 2.0

# A stream that has already delivered is worth more patience: enough for a server to restart.
MAX_STREAM_FAILURES = 8
MIN_STREAM_PATIENCE_S = 10.0
FIRST_STREAM_DELAY_S = 0.25
MAX_STREAM_DELAY_S = 4.0


class Deadline:
    """The time that a call has, over all its attempts."""

    def __init__(self, timeout: float | None) -> None:
        """timeout: unit seconds; None or infinite = no end. Raises: InvalidField."""
        if timeout is not None and (not isinstance(timeout, int | float) or math.isnan(timeout)):
            raise invalid_field(
                "timeout", f"is {timeout!r}; it must be a number of seconds, math.inf or None"
            )
        # What gRPC cannot count is as good as no end.
        self._end = (
            None if timeout is None or timeout > LONGEST_TIMEOUT_S else time.monotonic() + timeout
        )

    def remaining(self) -> float | None:
        """Seconds that are left, at least 0. None = no end."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def allows(self, delay: float) -> bool:
        """Whether there is time left after `delay` seconds."""
        return self._end is None or time.monotonic() + delay < self._end


class CallRetry:
    """Counts the attempts of one call."""

    def __init__(self, timeout: float | None) -> None:
        """timeout: of all attempts together. Unit: seconds; None = no end."""
        self.deadline = Deadline(timeout)
        self._failures = 0

    def delay_after(self, error: SessiondError) -> float | None:
        """Seconds to wait before the next attempt; None = give up."""
        self._failures += 1
        if self._failures >= MAX_ATTEMPTS or not is_worth_retrying(error):
            return None
        delay = _backoff(error, FIRST_DELAY_S, MAX_DELAY_S, self._failures)
        return delay if self.deadline.allows(delay) else None


class StreamRetry:
    """Counts the failures of one stream since it last delivered something."""

    def __init__(self, timeout: float | None) -> None:
        """timeout: of the whole stream. Unit: seconds; None = no end."""
        self.deadline = Deadline(timeout)
        self._opening: CallRetry | None = CallRetry(None)
        self._failures = 0
        self._first_failure_at = 0.0

    def progress(self) -> None:
        """Something was delivered."""
        self._opening = None
        self._failures = 0

    def delay_after(self, error: SessiondError) -> float | None:
        """Seconds to wait before the stream is opened again; None = give up."""
        delay = self._opening.delay_after(error) if self._opening else self._delay_between(error)
        return delay if delay is not None and self.deadline.allows(delay) else None

    def _delay_between(self, error: SessiondError) -> float | None:
        if not is_broken_stream(error):
            return None
        now = time.monotonic()
        if not self._failures:
            self._first_failure_at = now
        self._failures += 1
        if self._is_hopeless(now - self._first_failure_at):
            return None
        return _backoff(error, FIRST_STREAM_DELAY_S, MAX_STREAM_DELAY_S, self._failures)

    def _is_hopeless(self, failing_s: float) -> bool:
        return self._failures >= MAX_STREAM_FAILURES and failing_s >= MIN_STREAM_PATIENCE_S


class TurnRetry(StreamRetry):
    """Counts the failures of one wait for a turn. A turn goes on without its stream: once the server has it, it is waited for as long as
    there is time, however often the connection breaks.
    """

    def __init__(self, timeout: float | None) -> None:
        """timeout: of the whole wait. Unit: seconds; None = no end."""
        super().__init__(timeout)
        # The request_id makes opening it again safe, so that it has the patience of a stream from the beginning.
        self._opening = None
        self._is_accepted = False

    def progress(self) -> None:
        super().progress()
        self._is_accepted = True

    def ran_out(self, error: SessiondError) -> bool:
        """Whether it was the time that ended the wait, and not the error that came last."""
        return isinstance(error, DeadlineExceeded) or (
            self._is_accepted and is_broken_stream(error)
        )

    def _is_hopeless(self, failing_s: float) -> bool:
        return not self._is_accepted and super()._is_hopeless(failing_s)


def _backoff(error: SessiondError, first_s: float, max_s: float, failures: int) -> float:
    # Full jitter, so that many clients that failed together do not come back together. What the server asks for is waited in full.
    # The exponent is bounded because a patient stream may fail often.
    longest = min(max_s, first_s * 2 ** min(failures - 1, 16))
    return (error.retry_after or 0.0) + random.uniform(0, longest)  # noqa: S311 - no secret
