"""Functions that are called with the events of a session, in the background."""

import logging
from collections.abc import Callable
from threading import Lock

from sessiond._async._connection import AsyncConnection
from sessiond._async._streams import event_batches, last_seq_of
from sessiond._async._wire import Stop, finished, in_background, sleep
from sessiond._event import Event, EventHandler
from sessiond._requests import watch
from sessiond._retry import MAX_STREAM_DELAY_S
from sessiond.errors import ClientClosed, DeadlineExceeded, Overloaded, SessiondError, SessionNotFound, Unavailable

log = logging.getLogger("sessiond")


class AsyncHandlers:
    """The handlers of one session's events: one watcher for all of them, as long as there is one."""

    def __init__(self, connection: AsyncConnection, session_id: str) -> None:
        self._connection = connection
        self._session_id = session_id
        self._lock = Lock()
        self._entries: list[tuple[str | None, EventHandler]] = []
        self._stop: Stop | None = None

    def add(self, type_: str | None, handler: EventHandler) -> Callable[[], None]:
        """Call a handler from now on. type_: None = with every event. Returns what ends that."""
        entry = (type_, handler)
        with self._lock:
            if self._stop is None:
                stop = Stop()
                in_background(lambda: self._run(stop))
                self._stop = stop
            self._entries = [*self._entries, entry]

        def remove() -> None:
            with self._lock:
                # By identity: the same handler may have been given twice.
                self._entries = [other for other in self._entries if other is not entry]
                ended, self._stop = (None, self._stop) if self._entries else (self._stop, None)
            if ended:
                ended.set()

        return remove

    async def _run(self, stop: Stop) -> None:
        """Watch until stopped, or until there is nothing to watch any more."""
        after_seq: int | None = None
        try:
            while not stop.is_set:
                try:
                    if after_seq is None:
                        # Here, so that what comes while the server is away is not missed.
                        after_seq = await last_seq_of(self._connection, self._session_id, None)
                    request = watch(self._session_id, after_seq=after_seq)
                    async for events in event_batches(self._connection, request, None, stop=stop):
                        for event in events:
                            after_seq = event.seq or after_seq
                            await self._hand_out(event, stop)
                except (Unavailable, DeadlineExceeded, Overloaded) as error:
                    # Nobody is there to be told; a server that is away for long may still come back.
                    log.warning("watching session %r goes on later: %s", self._session_id, error)
                    await sleep(MAX_STREAM_DELAY_S)
        except ClientClosed:
            pass
        except SessionNotFound:
            log.info("session %r is gone: its handlers are called no more", self._session_id)
        except SessiondError:
            log.exception("watching session %r failed: its handlers are called no more", self._session_id)
        finally:
            with self._lock:
                if self._stop is stop:
                    self._stop = None

    async def _hand_out(self, event: Event, stop: Stop) -> None:
        for type_, handler in self._entries:
            if type_ not in (None, event.type) or stop.is_set:
                continue
            try:
                await finished(handler(event))
            except Exception:
                log.exception("a handler failed at %s of session %r", event.type, self._session_id)
