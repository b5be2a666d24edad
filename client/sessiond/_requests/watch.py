"""Requests that watch a session."""

from collections.abc import Sequence

from sessiond._protocol.checks import listed
from sessiond._requests.fields import filled
from sessiond.errors import invalid_field
from sessiond.v1.conversation_service_pb2 import WatchRequest

# The interval at which the server sends something even if nothing happens.
HEARTBEAT_S = 15.0
# A stream that is silent for longer is broken.
MAX_SILENCE_S = 2.5 * HEARTBEAT_S


def watch(
    session_id: str, *, after_seq: int | None, after_epoch: int | None = None
) -> WatchRequest:
    """Return the request to watch a session, or with "" the whole project."""
    return filled(
        WatchRequest(),
        session_id=session_id,
        after_seq=after_seq,
        after_epoch=after_epoch,
        heartbeat_interval=HEARTBEAT_S,
    )


def event_types(types: Sequence[str] | None) -> frozenset[str] | None:
    """Return the types to deliver; None = all.

    Raises:
        InvalidField: if the value is not a list of types.
    """
    if types is None:
        return None
    wanted = list(listed(types, "types"))
    for i, value in enumerate(wanted):
        if not isinstance(value, str):
            raise invalid_field(f"types[{i}]", f"must be a string, not {type(value).__name__}")
    return frozenset(wanted)
