"""Requests that watch a session."""

from collections.abc import Sequence

from sessiond._requests.fields import filled
from sessiond.errors import invalid_field
from sessiond.v1.conversation_service_pb2 import WatchRequest

# The interval at which the server sends something even if nothing happens.
HEARTBEAT_S = 15.0
# A stream that is silent for longer is broken.
MAX_SILENCE_S = 2.5 * HEARTBEAT_S


def watch(session_id: str, *, after_seq: int | None) -> WatchRequest:
    """Return the request to watch a session, or with "" the whole project."""
    return filled(
        WatchRequest(),
        session_id=session_id,
        after_seq=after_seq,
        heartbeat_interval=HEARTBEAT_S,
    )


def event_types(types: Sequence[str] | None) -> frozenset[str] | None:
    """Return the types to deliver; None = all.

    Raises:
        InvalidField: if there is one type in the place of a list.
    """
    if isinstance(types, str):
        raise invalid_field("types", f'must be a list of types, e.g. ["{types}"]')
    return None if types is None else frozenset(types)
