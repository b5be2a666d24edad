"""Background handlers of the lifecycle events of a project's sessions."""

import logging
from collections.abc import Callable

from sessiond._async._connection import AsyncConnection
from sessiond._async._streams import event_batches
from sessiond._async._wire import Signal, Stop, finished, in_background, sleep
from sessiond._protocol.retry import MAX_STREAM_DELAY_S
from sessiond._requests.watch import watch
from sessiond._types.event import EventHandler
from sessiond.errors import ClientClosed, DeadlineExceeded, Overloaded, SessiondError, Unavailable

log = logging.getLogger("sessiond")

READY_TIMEOUT_S = 5.0


class AsyncLifecycle:
    """The lifecycle handlers of one client. Each has its own stream, as there are few handlers."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._opened: dict[Stop, Signal] = {}

    def add(self, type_: str | None, handler: EventHandler) -> Callable[[], None]:
        """Call a handler with each event of a type (None = all); return a function to remove it."""
        stop, opened = Stop(), Signal()
        self._opened[stop] = opened
        in_background(lambda: self._run(type_, handler, stop, opened))

        def remove() -> None:
            self._opened.pop(stop, None)
            stop.set()

        return remove

    def end(self) -> None:
        """Stop all handlers."""
        opened, self._opened = self._opened, {}
        for stop in opened:
            stop.set()

    async def ready(self) -> None:
        """Wait until every handler's stream is open, at most READY_TIMEOUT_S each."""
        for opened in list(self._opened.values()):
            await opened.wait(READY_TIMEOUT_S)

    async def _run(
        self, type_: str | None, handler: EventHandler, stop: Stop, opened: Signal
    ) -> None:
        def is_open(yes: bool) -> None:
            if yes:
                opened.set()

        types = None if type_ is None else frozenset({type_})
        try:
            while not stop.is_set:
                try:
                    request = watch("", after_seq=None)
                    async for events in event_batches(
                        self._connection, request, None, types=types, stop=stop, opened=is_open
                    ):
                        for event in events:
                            try:
                                await finished(handler(event))
                            except Exception:
                                log.exception(
                                    "a lifecycle handler failed at %s of session %r",
                                    event.type,
                                    event.session_id,
                                )
                except (Unavailable, DeadlineExceeded, Overloaded) as error:
                    # The server may come back even after a long outage.
                    log.warning("retrying the watch of the sessions: %s", error)
                    await sleep(MAX_STREAM_DELAY_S)
        except ClientClosed:
            pass
        except SessiondError:
            log.exception("the watch of the sessions failed; a lifecycle handler is stopped")
        finally:
            opened.set()
