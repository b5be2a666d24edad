"""The call that follows a session; `client.sessions` has it."""

from collections.abc import Callable, Sequence

from sessiond._async._connection import AsyncCalls
from sessiond._async._lazy import AsyncLazy
from sessiond._async._streams import event_batches
from sessiond._protocol.checks import check_function
from sessiond._requests import watch as watch_requests
from sessiond._types.event import Event


class AsyncEventCalls(AsyncCalls):
    """The call that follows a session."""

    def events(
        self,
        session_id: str,
        after_seq: int | None = None,
        *,
        after_epoch: int | None = None,
        types: Sequence[str] | None = None,
        follow_recreated: bool = False,
        on_connection: Callable[[bool], None] | None = None,
        timeout: float | None = None,
    ) -> AsyncLazy[Event]:
        """Follow a session: the messages after after_seq, then all events as they arrive, forever.

        After a broken connection the client reconnects: each message is delivered once, in order.
        Other events, such as "session.updated", may be missed meanwhile. "session.rewound" is never
        missed: it says that messages were removed, and later messages reuse their seqs. The session
        does not expire while it is watched. Events of a session that is created later with the same
        id are never mixed in.

        Args:
            session_id: the session.
            after_seq: skip the messages up to this seq; 0 = skip none. Default: yield only messages
                stored after the iteration began.
            after_epoch: the epoch to which after_seq belongs (`Event.epoch`). If the session was
                rewound since, "session.rewound" comes first. Default: the session's epoch when the
                iteration begins. Only with after_seq.
            types: yield only events of these types, e.g. ["assistant.message"]; see `Event.type`.
                Default: all.
            follow_recreated: when the session is deleted or expires, wait until another one is
                created with its id. Then yield "session.recreated" and all of its messages.
            on_connection: called with True when a connection to a server has begun to deliver, and
                with False when it has ended, e.g. to show that events are late. It must return at
                once and must not raise. Default: none.
            timeout: deadline of the whole stream, in seconds. Default: no deadline.

        Returns:
            A lazy list that never ends; no call is made until it is iterated over. Iterating raises
            SessionNotFound when the session is deleted or expires, unless follow_recreated is
            given, and Unavailable when the server stays unavailable.
        """
        request = watch_requests.watch(
            session_id,
            after_seq=after_seq,
            after_epoch=after_epoch,
            follow_recreated=follow_recreated,
        )
        wanted = watch_requests.event_types(types)
        if on_connection is not None:
            check_function(on_connection, "on_connection")
        return AsyncLazy(
            lambda: event_batches(
                self._connection,
                request,
                timeout,
                types=wanted,
                opened=watch_requests.on_changes(on_connection),
            )
        )
