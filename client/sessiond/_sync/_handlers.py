# Generated from _async/_handlers.py by scripts/generate-sync-client. Do not edit.
"""Functions that are called with the events of a session, in the background."""

import logging
from collections.abc import Callable
from contextvars import ContextVar
from threading import Lock

from sessiond._protocol.retry import MAX_STREAM_DELAY_S
from sessiond._requests.watch import watch
from sessiond._sync._connection import Connection
from sessiond._sync._streams import event_batches, last_seq_of
from sessiond._sync._wire import Signal, Stop, finished, in_background, sleep
from sessiond._types.event import Event, EventHandler
from sessiond.errors import (
    ClientClosed,
    DeadlineExceeded,
    Overloaded,
    SessiondError,
    SessionNotFound,
    Unavailable,
)

log = logging.getLogger("sessiond")

# How long what is sent waits for the handlers to be listening, and what was answered for them to be done with it.
READY_TIMEOUT_S = 5.0
HANDED_OUT_TIMEOUT_S = 5.0

# The handlers in which the running code is called.
_within: ContextVar[object | None] = ContextVar("_within", default=None)


class _Watch:
    """How far one watcher has come."""

    def __init__(self) -> None:
        self.stop = Stop()
        self.opened = Signal()
        self._lock = Lock()
        self._seq = 0
        self._is_over = False
        self._waiting: list[tuple[int, Signal]] = []

    def open(self, is_open: bool) -> None:
        """Events come from now on, or they do not for a while."""
        if is_open or self._is_over:
            self.opened.set()
        else:
            self.opened.clear()

    def hand_out(self, seq: int) -> None:
        """The handlers have been called with everything up to this message."""
        with self._lock:
            self._seq = max(self._seq, seq)
            self._wake()

    def end(self) -> None:
        """Nothing more comes: nobody needs to wait for it."""
        with self._lock:
            self._is_over = True
            self._wake()
        self.opened.set()

    def reached(self, seq: int) -> Signal:
        """What says that the handlers have been called with this message, or never will be."""
        signal = Signal()
        with self._lock:
            self._waiting.append((seq, signal))
            self._wake()
        return signal

    def _wake(self) -> None:
        for seq, signal in self._waiting:
            if self._is_over or seq <= self._seq:
                signal.set()
        self._waiting = [
            (seq, signal) for seq, signal in self._waiting if not self._is_over and seq > self._seq
        ]


class Handlers:
    """The handlers of one session's events: one watcher for all of them, as long as there is one."""

    def __init__(self, connection: Connection, session_id: str) -> None:
        self._connection = connection
        self._session_id = session_id
        self._lock = Lock()
        self._entries: list[tuple[str | None, EventHandler]] = []
        self._watch: _Watch | None = None

    def add(self, type_: str | None, handler: EventHandler) -> Callable[[], None]:
        """Call a handler from now on. type_: None = with every event. Returns what ends that."""
        entry = (type_, handler)
        with self._lock:
            if self._watch is None:
                watch = _Watch()
                in_background(lambda: self._run(watch))
                self._watch = watch
            self._entries = [*self._entries, entry]

        def remove() -> None:
            with self._lock:
                # By identity: the same handler may have been given twice.
                self._entries = [other for other in self._entries if other is not entry]
                ended, self._watch = (None, self._watch) if self._entries else (self._watch, None)
            if ended:
                ended.stop.set()

        return remove

    def ready(self) -> None:
        """Return when the handlers, where there are any, are called with what comes; or after some seconds."""
        watch = self._watch
        if watch and not watch.opened.wait(READY_TIMEOUT_S):
            log.warning(
                "the handlers of session %r may miss something: the watching has not begun yet",
                self._session_id,
            )

    def handed_out(self, seq: int) -> None:
        """Return when the handlers, where there are any, have been called with everything up to a message; or after some seconds. Within a
        handler at once: it is what would be waited for.
        """
        watch = self._watch
        if (
            watch
            and _within.get() is not self
            and not watch.reached(seq).wait(HANDED_OUT_TIMEOUT_S)
        ):
            log.warning(
                "the handlers of session %r have not been called with message %d yet",
                self._session_id,
                seq,
            )

    def _run(self, watching: _Watch) -> None:
        """Watch until stopped, or until there is nothing to watch any more."""
        stop = watching.stop
        after_seq: int | None = None
        try:
            while not stop.is_set:
                try:
                    if after_seq is None:
                        # Here, so that what comes while the server is away is not missed.
                        after_seq = last_seq_of(self._connection, self._session_id, None)
                        watching.hand_out(after_seq)
                    request = watch(self._session_id, after_seq=after_seq)
                    for events in event_batches(
                        self._connection, request, None, stop=stop, opened=watching.open
                    ):
                        for event in events:
                            after_seq = event.seq or after_seq
                            self._hand_out(event, stop)
                            watching.hand_out(after_seq)
                except (Unavailable, DeadlineExceeded, Overloaded) as error:
                    # Nobody is there to be told; a server that is away for long may still come back.
                    log.warning("watching session %r goes on later: %s", self._session_id, error)
                    sleep(MAX_STREAM_DELAY_S)
        except ClientClosed:
            pass
        except SessionNotFound:
            log.info("session %r is gone: its handlers are called no more", self._session_id)
        except SessiondError:
            log.exception(
                "watching session %r failed: its handlers are called no more", self._session_id
            )
        finally:
            with self._lock:
                if self._watch is watching:
                    self._watch = None
            watching.end()

    def _hand_out(self, event: Event, stop: Stop) -> None:
        for type_, handler in self._entries:
            if type_ not in (None, event.type) or stop.is_set:
                continue
            token = _within.set(self)
            try:
                finished(handler(event))
            except Exception:
                log.exception("a handler failed at %s of session %r", event.type, self._session_id)
            finally:
                _within.reset(token)
