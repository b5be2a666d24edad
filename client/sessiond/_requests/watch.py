"""Requests that watch a session."""

from collections.abc import Callable, Sequence

from sessiond._protocol.checks import listed
from sessiond._requests.fields import filled
from sessiond.errors import invalid_field
from sessiond.v1.conversation_service_pb2 import WatchRequest

# Interval of the server's heartbeats, which it sends while nothing happens. Some proxies cut
# connections that are silent for ten seconds.
HEARTBEAT_S = 8.0
# A stream that is silent for longer than this is broken. The limit is 2.5 times the heartbeat
# interval of older servers, which is 15 seconds.
MAX_SILENCE_S = 37.5


def watch(
    session_id: str,
    *,
    after_seq: int | None,
    after_epoch: int | None = None,
    incarnation: str = "",
    follow_recreated: bool = False,
) -> WatchRequest:
    """Return the request to watch a session, or all sessions of the project.

    Args:
        session_id: the session. "" = all sessions of the project.
        after_seq: seq of the message to begin after.
        after_epoch: the epoch to which after_seq belongs.
        incarnation: the incarnation, or an etag, of the session to which after_seq belongs. "" =
            the session that exists when the watch begins.
        follow_recreated: after the session was deleted, watch the next session with its id.

    Raises:
        InvalidField: if after_epoch is given without after_seq.
    """
    if after_epoch is not None and after_seq is None:
        raise invalid_field("after_epoch", "is only valid with after_seq")
    return filled(
        WatchRequest(),
        session_id=session_id,
        after_seq=after_seq,
        after_epoch=after_epoch,
        heartbeat_interval=HEARTBEAT_S,
        incarnation=incarnation or None,
        follow_recreated=follow_recreated or None,
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


def on_changes(call: Callable[[bool], None] | None) -> Callable[[bool], None] | None:
    """Return a function that passes a value on to another function if the value has changed.

    Args:
        call: the other function. None = no function; the result is None as well.
    """
    if call is None:
        return None
    last: bool | None = None

    def pass_on(value: bool) -> None:
        nonlocal last
        if value != last:
            last = value
            call(value)

    return pass_on
