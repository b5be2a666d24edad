# Generated from _async/_handlers.py by scripts/generate-sync-client. Do not edit.
"""Calls handlers with the events of a session, in the background."""

import logging
from collections.abc import Callable
from contextvars import ContextVar
from threading import Lock

from sessiond._protocol.answer_texts import AnswerTexts
from sessiond._protocol.retry import MAX_STREAM_DELAY_S
from sessiond._requests.watch import watch
from sessiond._sync._connection import Connection
from sessiond._sync._streams import event_batches, place_of
from sessiond._sync._wire import Signal, Stop, finished, in_background, sleep
from sessiond._types.event import REWOUND, Event, EventHandler
from sessiond.errors import (
    ClientClosed,
    DeadlineExceeded,
    Overloaded,
    SessiondError,
    SessionNotFound,
    Unavailable,
)

log = logging.getLogger("sessiond")

# A send waits at most READY_TIMEOUT_S for the watch to open. The answer is returned when the
# handlers have been called with it, or after DELIVERED_TIMEOUT_S.
READY_TIMEOUT_S = 5.0
DELIVERED_TIMEOUT_S = 5.0

# The AsyncHandlers object that has called the handler in which the current code runs, if any.
_within: ContextVar[object | None] = ContextVar("_within", default=None)


class _Watch:
    """The progress of one watch.

    Attributes:
        stop: ends the watch.
        opened: a signal that is set while the watch receives events, and after it has ended.
    """

    def __init__(self) -> None:
        self.stop = Stop()
        self.opened = Signal()
        self._lock = Lock()
        self._seq = 0
        self._has_ended = False
        self._waiting: list[tuple[int, Signal]] = []

    def open(self, is_open: bool) -> None:
        """Record whether the watch receives events from now on."""
        if is_open or self._has_ended:
            self.opened.set()
        else:
            self.opened.clear()

    def delivered(self, seq: int) -> None:
        """Record that the handlers have been called with all events up to this message."""
        with self._lock:
            self._seq = seq
            self._wake()

    def end(self) -> None:
        """Wake all waiters: no more events arrive."""
        with self._lock:
            self._has_ended = True
            self._wake()
        self.opened.set()

    def reached(self, seq: int) -> Signal:
        """Return a signal that is set when the handlers have seen a message, or the watch ends."""
        signal = Signal()
        with self._lock:
            self._waiting.append((seq, signal))
            self._wake()
        return signal

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for seq, signal in waiting:
            if self._has_ended or seq <= self._seq:
                signal.set()
            else:
                self._waiting.append((seq, signal))


class Handlers:
    """The handlers of a session's events. While there are handlers, they share one watch."""

    def __init__(self, connection: Connection, session_id: str) -> None:
        self._connection = connection
        self._session_id = session_id
        self._lock = Lock()
        self._entries: list[tuple[str | None, EventHandler]] = []
        self._watch: _Watch | None = None

    def add(self, type_: str | None, handler: EventHandler) -> Callable[[], None]:
        """Call a handler for each event from now on.

        Args:
            type_: the type of the events to call it for. None = all.
            handler: the handler.

        Returns:
            A function that removes the handler.
        """
        entry = (type_, handler)
        with self._lock:
            if self._watch is None:
                watch = _Watch()
                in_background(lambda: self._run(watch))
                self._watch = watch
            self._entries = [*self._entries, entry]

        def remove() -> None:
            with self._lock:
                # Compare by identity, because the same handler may have been added twice.
                self._entries = [other for other in self._entries if other is not entry]
                ended, self._watch = (None, self._watch) if self._entries else (self._watch, None)
            if ended:
                ended.stop.set()

        return remove

    def ready(self) -> None:
        """If there are handlers, wait until their watch is open, for at most READY_TIMEOUT_S."""
        watch = self._watch
        if watch and not watch.opened.wait(READY_TIMEOUT_S):
            log.warning(
                "the handlers of session %r may miss events: the watch is not open yet",
                self._session_id,
            )

    def wait_delivered(self, seq: int) -> None:
        """Wait until the handlers have seen a message, for at most DELIVERED_TIMEOUT_S.

        A call from within a handler returns at once, because it would wait for itself.
        """
        watch = self._watch
        if watch and _within.get() is not self and not watch.reached(seq).wait(DELIVERED_TIMEOUT_S):
            log.warning(
                "the handlers of session %r have not been called with message %d yet",
                self._session_id,
                seq,
            )

    def _run(self, watching: _Watch) -> None:
        """Watch until stopped, or until the session is gone or the client is closed."""
        stop = watching.stop
        after_seq: int | None = None
        after_epoch = 0
        incarnation = ""
        texts = AnswerTexts()
        try:
            while not stop.is_set:
                try:
                    if after_seq is None:
                        # Look up the session's last seq before the watch starts. The watch can
                        # then begin after it, even if it opens only after an outage.
                        after_seq, after_epoch, incarnation = place_of(
                            self._connection, self._session_id, None
                        )
                        watching.delivered(after_seq)
                    request = watch(
                        self._session_id,
                        after_seq=after_seq,
                        after_epoch=after_epoch,
                        incarnation=incarnation,
                    )
                    for events in event_batches(
                        self._connection,
                        request,
                        None,
                        stop=stop,
                        opened=watching.open,
                        texts=texts,
                    ):
                        for event in events:
                            if event.seq:
                                after_seq, after_epoch = event.seq, event.epoch
                            elif event.type == REWOUND:
                                after_seq = min(after_seq, int(event.data.last_seq))
                                after_epoch = event.epoch
                            self._deliver(event, stop)
                            watching.delivered(after_seq)
                except (Unavailable, DeadlineExceeded, Overloaded) as error:
                    # There is no caller to raise to, and the server may come back.
                    log.warning("watching session %r again later: %s", self._session_id, error)
                    sleep(MAX_STREAM_DELAY_S)
        except ClientClosed:
            pass
        except SessionNotFound:
            log.info("session %r is gone: its handlers are no longer called", self._session_id)
        except SessiondError:
            log.exception(
                "watching session %r failed: its handlers are no longer called", self._session_id
            )
        finally:
            with self._lock:
                if self._watch is watching:
                    self._watch = None
            watching.end()

    def _deliver(self, event: Event, stop: Stop) -> None:
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
