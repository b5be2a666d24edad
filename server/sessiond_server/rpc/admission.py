"""Admission: limits the number of concurrent calls, and ends long streams during a drain."""

from dataclasses import dataclass

from sessiond_server.core.errors import Fault

# These calls last as long as clients keep them open. They have a limit of their own, and are never
# logged as slow.
STREAMING_RPCS = frozenset({"Watch", "Send"})


@dataclass(slots=True)
class Admission:
    """Counts the calls in this process, and refuses calls above the limits.

    Attributes:
        max_calls: limit for `calls`.
        max_streams: limit for `streams`.
        calls: number of calls in progress that are not in `streams`.
        streams: number of calls of STREAMING_RPCS in progress.
        is_draining: whether the server is shutting down.
    """

    max_calls: int
    max_streams: int
    calls: int = 0
    streams: int = 0
    is_draining: bool = False

    def begin(self, method: str) -> None:
        """Count a call that has arrived, whether it is admitted or not."""
        if method in STREAMING_RPCS:
            self.streams += 1
        else:
            self.calls += 1

    def end(self, method: str) -> None:
        """Stop counting a call."""
        if method in STREAMING_RPCS:
            self.streams -= 1
        else:
            self.calls -= 1

    def admit(self, method: str) -> None:
        """Check whether a call that has begun may continue.

        Raises:
            Fault: OVERLOADED if more calls of this kind are in progress than the limit allows.
        """
        if method in STREAMING_RPCS:
            count, limit, kind = self.streams, self.max_streams, "watches and sends"
        else:
            count, limit, kind = self.calls, self.max_calls, "calls"
        if count > limit:
            raise Fault(
                "OVERLOADED",
                f"this server has reached its limit of {limit} {kind}; try again",
                retry_after_s=0.5,
            )

    def check_draining(self) -> None:
        """Check between two responses whether a long stream may continue.

        Raises:
            Fault: SERVER_DRAINING if the server is shutting down.
        """
        if self.is_draining:
            raise Fault(
                "SERVER_DRAINING",
                "this server is shutting down; continue on another one, "
                "from the last resume_token or seq",
                retry_after_s=0.2,
            )
