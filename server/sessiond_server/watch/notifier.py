"""Notifications between server processes, using PostgreSQL's NOTIFY.

Notifications only make processes react sooner. Correctness does not depend on their arrival.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import aclosing
from dataclasses import fields, replace
from types import MappingProxyType
from uuid import UUID

import orjson
import structlog

from sessiond_server.core.events import ANSWERED_SEQ, DELTA_CONTENT, OFFSET, Event
from sessiond_server.db.pool import Contention, DatabaseUnavailable, PoolExhausted
from sessiond_server.telemetry import metrics
from sessiond_server.watch.store import WatchStore

# Notifications are collected for this long, so that a busy server sends a few dozen per second
# rather than one per append.
COLLECT_S = 0.02
# If more sessions than this have new messages, a single item says that any session may have some.
MAX_KEYS = 500
# When more events than MAX_DELTAS are queued, new deltas are dropped. Other events are rarer,
# because each requires a commit, so they are dropped only above MAX_EVENTS.
MAX_DELTAS, MAX_EVENTS = 500, 4096
# PostgreSQL requires payloads of less than 8,000 bytes.
MAX_PAYLOAD_BYTES = 7_900
MAX_ITEM_BYTES = 7_500
MAX_DELTA_CHARACTERS = 2_000
FIRST_RETRY_S, LONGEST_RETRY_S = 0.1, 5.0

log = structlog.get_logger(__name__)


class Notifier:
    """Sends this process's notifications, and receives those of other processes."""

    def __init__(
        self,
        store: WatchStore,
        *,
        on_append: Callable[[UUID], None],
        on_event: Callable[[Event], None],
        on_gap: Callable[[], None],
        on_want: Callable[[UUID, bool], None],
        is_watched: Callable[[], bool] = lambda: True,
    ) -> None:
        """Create a notifier. The caller has to run send() and listen().

        Args:
            store: sends and receives payloads.
            on_append: called with the key of a session that has new messages.
            on_event: called with an ephemeral event.
            on_gap: called if notifications were missed or dropped, so that anything may have
                changed.
            on_want: called if another process wants the text of a turn. Its arguments are the turn,
                and whether the text should be frozen; see `want`.
            is_watched: returns whether any caller waits for events in this process. If not, a
                process that cannot listen looks for notifications less often.
        """
        self._is_watched = is_watched
        self._store = store
        self._on_append = on_append
        self._on_event = on_event
        self._on_gap = on_gap
        self._on_want = on_want
        # The turns whose texts this process wants, each with whether the text should be frozen.
        self._wanted: dict[UUID, bool] = {}
        self._name = uuid.uuid4().hex
        self._keys: set[UUID] = set()
        self._events: list[Event] = []
        # By log: index of the session's last event in _events.
        self._last_of: dict[UUID, int] = {}
        self._dropped = 0
        self._wake = asyncio.Event()

    def messages_appended(self, key: UUID) -> None:
        """Notify the other processes of new messages."""
        if len(self._keys) <= MAX_KEYS:
            self._keys.add(key)
        self._wake.set()

    def publish(self, event: Event) -> None:
        """Notify the other processes of an event.

        If too many events are queued, the event is dropped. For deltas, this limit is lower.
        """
        self._wake.set()
        place = self._last_of.get(event.log)
        if event.is_delta and place is not None and (joined := _joined(self._events[place], event)):
            self._events[place] = joined
        elif len(self._events) < (MAX_DELTAS if event.is_delta else MAX_EVENTS):
            self._last_of[event.log] = len(self._events)
            self._events.append(event)
        else:
            self._dropped += 1

    def want(self, turn_id: UUID, *, freeze: bool = False) -> None:
        """Ask the process that runs a turn to save the turn's text, and to send each new piece.

        The process answers with an empty delta, whose offset is the length of the saved text.

        Args:
            turn_id: the turn.
            freeze: whether the process must pause the publication of the text, because the turn
                is being ended.
        """
        self._wanted[turn_id] = freeze or self._wanted.get(turn_id, False)
        self._wake.set()

    async def send(self) -> None:
        """Send collected notifications until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(COLLECT_S)
            self._wake.clear()
            keys, self._keys = self._keys, set()
            events, self._events, self._last_of = self._events, [], {}
            wanted, self._wanted = self._wanted, {}
            if self._dropped:
                log.warning("notifications_dropped", count=self._dropped)
                self._dropped = 0
            try:
                await self._store.notify(payloads(self._name, keys, events, wanted))
            except (DatabaseUnavailable, PoolExhausted, Contention) as e:
                log.debug("notifications_dropped", count=len(keys) + len(events), error=str(e))

    async def listen(self) -> None:
        """Receive notifications from other processes until cancelled; reconnect when necessary."""
        delay_s = FIRST_RETRY_S
        while True:
            try:
                async with aclosing(self._store.listen(self._is_watched)) as received:
                    async for payload in received:
                        if payload:
                            delay_s = FIRST_RETRY_S
                            self._receive(payload)
                        else:
                            metrics.LISTENING.set(1)
                            # The connection is new, so earlier notifications have been missed.
                            self._on_gap()
            except DatabaseUnavailable as e:
                log.debug("notify_listener_disconnected", error=str(e))
            finally:
                metrics.LISTENING.set(0)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, LONGEST_RETRY_S)

    def _receive(self, payload: str) -> None:
        # Another version of the server may send items that this version does not know. They must
        # not end the loop.
        try:
            notification = orjson.loads(payload)
            if sent_at := notification.get("at"):  # an earlier version does not send it
                # The clocks of two machines differ a little, so the difference may be negative.
                metrics.NOTICE_LAG.observe(max(time.time() - sent_at, 0))
            if notification["from"] == self._name:
                return
            for item in notification["items"]:
                match item:
                    case None:
                        self._on_gap()
                    case str():
                        self._on_append(UUID(item))
                    case {"want": turn_id, **options}:
                        self._on_want(UUID(turn_id), bool(options.get("freeze")))
                    case [type_, project_id, session_id, log_, time_us, *rest]:
                        # An earlier version does not send the remaining fields.
                        self._on_event(
                            Event(type_, UUID(project_id), session_id, UUID(log_), time_us, *rest)
                        )
        except (ValueError, KeyError, TypeError, AttributeError):
            self._on_gap()


def _joined(last: Event, delta: Event) -> Event | None:
    """Append a delta to the session's last event, so that one notification carries many words.

    Returns:
        The joined event; None if the two belong to different texts, or would become too long.
    """
    if (last.type, last.after_seq) != (delta.type, delta.after_seq):
        return None
    if not (last.data and delta.data) or last.data["turn_id"] != delta.data["turn_id"]:
        return None
    if (OFFSET in delta.data) != (OFFSET in last.data) or (
        OFFSET in delta.data
        and (
            last.data[ANSWERED_SEQ] != delta.data[ANSWERED_SEQ]
            or last.data[OFFSET] + len(last.data[DELTA_CONTENT]) != delta.data[OFFSET]
        )
    ):
        return None
    text = last.data[DELTA_CONTENT] + delta.data[DELTA_CONTENT]
    if len(text) > MAX_DELTA_CHARACTERS:
        return None
    return replace(last, data={**last.data, DELTA_CONTENT: text})


def payloads(
    sender: str,
    keys: Collection[UUID],
    events: Iterable[Event],
    wanted: Mapping[UUID, bool] = MappingProxyType({}),
) -> list[str]:
    """Return payloads for the other processes, as few as possible.

    Args:
        sender: name of this process.
        keys: keys of sessions with new messages. More than MAX_KEYS keys stand for all sessions.
        events: ephemeral events.
        wanted: turns whose texts are wanted, and whether they should be frozen.
    """
    # A session's messages are announced before its events, so that a receiver has the messages that
    # precede an event.
    items = [b"null"] if len(keys) > MAX_KEYS else [orjson.dumps(key.hex) for key in keys]
    items += [item for event in events for item in _items(event)]
    items += [
        orjson.dumps({"want": turn_id.hex, "freeze": freeze}) for turn_id, freeze in wanted.items()
    ]
    head, tail = f'{{"from":"{sender}","at":{time.time():.6f},"items":['.encode(), b"]}"
    room = MAX_PAYLOAD_BYTES - len(head) - len(tail)
    made: list[list[bytes]] = []
    left = 0
    for item in items:
        if len(item) + 1 > left:
            made.append([])
            left = room
        made[-1].append(item)
        left -= len(item) + 1
    return [(head + b",".join(part) + tail).decode() for part in made]


def _items(event: Event) -> list[bytes]:
    """Return an event as items of a payload; an event with a long text becomes several items."""
    values = [getattr(event, field.name) for field in fields(event)]
    if not event.epoch:
        del values[-1]  # an earlier version does not know the field
    item = orjson.dumps(values)
    if len(item) <= MAX_ITEM_BYTES:
        return [item]
    text = event.data[DELTA_CONTENT] if event.is_delta and event.data else ""
    if len(text) < 2:
        return [b"null"]
    data, middle = event.data or {}, len(text) // 2
    second = {**data, DELTA_CONTENT: text[middle:]}
    if OFFSET in data:
        second[OFFSET] = data[OFFSET] + middle
    halves = ({**data, DELTA_CONTENT: text[:middle]}, second)
    return [item for half in halves for item in _items(replace(event, data=half))]
