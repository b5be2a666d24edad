"""Requests that watch a session."""

from collections.abc import Sequence

from sessiond._protocol.times import to_duration
from sessiond._requests.fields import filled
from sessiond.errors import invalid_field
from sessiond.v1.conversation_service_pb2 import WatchRequest

# How often a server says that nothing happens; a stream that is silent for longer than some of these is broken.
HEARTBEAT_S = 15.0


MAX_SILENT_HEARTBEATS = 2.5


def watch(session_id: str, *, after_seq: int | None) -> WatchRequest:
    request = filled(WatchRequest(), session_id=session_id, after_seq=after_seq)
    request.heartbeat_interval.CopyFrom(to_duration(HEARTBEAT_S, "heartbeat_interval"))
    return request


def event_types(types: Sequence[str] | None) -> frozenset[str] | None:
    """Raises: InvalidField."""
    if isinstance(types, str):
        raise invalid_field("types", f'must be a list of types, e.g. ["{types}"]')
    return None if types is None else frozenset(types)
