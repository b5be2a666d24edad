"""Retry policy: how often calls are retried, and after how long. No I/O except log lines."""

import logging
import random
import time

from sessiond._protocol.status import is_worth_retrying
from sessiond.errors import DeadlineExceeded, SessiondError, invalid_field

LONGEST_TIMEOUT_S = 365 * 24 * 3600.0

FIRST_DELAY_S = 0.1
MAX_DELAY_S = 2.0
FIRST_STREAM_DELAY_S = 0.25
MAX_STREAM_DELAY_S = 4.0

# A call with a deadline is retried until the deadline. A call without a deadline is retried for
# PATIENCE_S, in which a server can restart, and at least MIN_ATTEMPTS times.
MIN_ATTEMPTS = 8
PATIENCE_S = 60.0

# After this time without an answer, a log line says what the caller waits for.
WARN_AFTER_S = 3.0

log = logging.getLogger("sessiond")


class Deadline:
    """The deadline of a call, over all its attempts."""

    def __init__(self, timeout: float | None) -> None:
        """Start the clock.

        Args:
            timeout: seconds from now. None or infinite = no deadline.

        Raises:
            InvalidField: the timeout is not a number.
        """
        # Only NaN differs from itself. math.isnan() raises for an int that is too large for a
        # float.
        if timeout is not None and (not isinstance(timeout, int | float) or timeout != timeout):
            raise invalid_field(
                "timeout", f"is {timeout!r}; it must be a number of seconds, math.inf or None"
            )
        # gRPC cannot represent longer timeouts.
        self._end = (
            None if timeout is None or timeout > LONGEST_TIMEOUT_S else time.monotonic() + timeout
        )

    def remaining(self) -> float | None:
        """Return the seconds left, at least 0. None = no deadline."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def allows(self, delay: float) -> bool:
        """Return whether time is left after `delay` seconds."""
        return self._end is None or time.monotonic() + delay < self._end


class CallRetry:
    """Counts the failures of one call, or of one stream since it last delivered something.

    Args:
        timeout: seconds for all attempts together. None = no deadline.
    """

    def __init__(self, timeout: float | None) -> None:
        self.deadline = Deadline(timeout)
        self._failures = 0
        self._first_failure_at = 0.0
        self._has_warned = False

    def progress(self) -> None:
        """Record that the call delivered something."""
        self._failures = 0

    def delay_after(self, error: SessiondError) -> float | None:
        """Return the seconds to wait before the next attempt. None = give up."""
        if not is_worth_retrying(error):
            return None
        now = time.monotonic()
        if not self._failures:
            self._first_failure_at = now
        self._failures += 1
        failing_s = now - self._first_failure_at
        if self.deadline.remaining() is None and self._is_hopeless(failing_s):
            return None
        delay = self._backoff(error)
        if not self.deadline.allows(delay):
            return None
        if failing_s >= WARN_AFTER_S and not self._has_warned:
            self._has_warned = True
            log.warning("%s; still trying", error)
        return delay

    def _backoff(self, error: SessiondError) -> float:
        return _backoff(error, FIRST_DELAY_S, MAX_DELAY_S, self._failures)

    def _is_hopeless(self, failing_s: float) -> bool:
        return self._failures >= MIN_ATTEMPTS and failing_s >= PATIENCE_S


class StreamRetry(CallRetry):
    """Counts the failures of one stream since it last delivered something.

    Args:
        timeout: seconds for the whole stream. None = no deadline.
    """

    def _backoff(self, error: SessiondError) -> float:
        return _backoff(error, FIRST_STREAM_DELAY_S, MAX_STREAM_DELAY_S, self._failures)


class TurnRetry(StreamRetry):
    """Counts the failures of one wait for a turn.

    A turn runs on without its stream. Once the server has accepted it, the wait continues until the
    deadline, however often the connection breaks.

    Args:
        timeout: seconds for the whole wait. None = no deadline.
    """

    def __init__(self, timeout: float | None) -> None:
        super().__init__(timeout)
        self._is_accepted = False

    def progress(self) -> None:
        super().progress()
        self._is_accepted = True

    def ran_out(self, error: SessiondError) -> bool:
        """Return whether the deadline ended the wait, rather than the last error."""
        return isinstance(error, DeadlineExceeded) or (
            self._is_accepted and is_worth_retrying(error)
        )

    def _is_hopeless(self, failing_s: float) -> bool:
        return not self._is_accepted and super()._is_hopeless(failing_s)


def _backoff(error: SessiondError, first_s: float, max_s: float, failures: int) -> float:
    # Full jitter spreads clients that failed together; the server's retry_after is kept in full.
    # The exponent is bounded because a stream may fail many times.
    longest = min(max_s, first_s * 2 ** min(failures - 1, 16))
    return (error.retry_after or 0.0) + random.uniform(0, longest)  # noqa: S311 - not a secret
