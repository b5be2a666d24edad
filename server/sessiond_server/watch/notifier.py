"""EventPublisher from one server process to the others, by way of the database's NOTIFY. They save waiting; nothing depends on them."""

import asyncio
import uuid
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import fields, replace
from uuid import UUID

import orjson
import structlog

from sessiond_server.core.events import DELTA_CONTENT, Event
from sessiond_server.db.pool import Contention, DatabaseUnavailable, PoolExhausted
from sessiond_server.watch.store import WatchStore

# How long hints are collected, so that a busy server sends some dozens of notices a second and not one for each append.
COLLECT_S = 0.02
# Beyond so many at once, one hint says that anything may have changed.
MAX_PENDING = 500
# PostgreSQL takes less than 8,000.
MAX_PAYLOAD_BYTES = 7_900
MAX_ITEM_BYTES = 7_500
MAX_DELTA_CHARACTERS = 2_000
FIRST_RETRY_S, LONGEST_RETRY_S = 0.1, 5.0

log = structlog.get_logger(__name__)


class Notifier:
    """What this process tells the others, and hears from them.

    Args:
        on_append: takes the key of a session with new messages. on_event: takes a lifecycle event.
        on_gap: called where anything may have changed: hints were left out, or may have been missed.
    """

    def __init__(
        self,
        store: WatchStore,
        *,
        on_append: Callable[[UUID], None],
        on_event: Callable[[Event], None],
        on_gap: Callable[[], None],
    ) -> None:
        self._store = store
        self._on_append = on_append
        self._on_event = on_event
        self._on_doubt = on_gap
        self._name = uuid.uuid4().hex
        self._keys: set[UUID] = set()
        self._events: list[Event] = []
        # Of each session, by its log, the place of the last one.
        self._last_of: dict[UUID, int] = {}
        self._wake = asyncio.Event()

    def messages_appended(self, key: UUID) -> None:
        """Have the others told."""
        if len(self._keys) <= MAX_PENDING:
            self._keys.add(key)
        self._wake.set()

    def publish(self, event: Event) -> None:
        """Have the others told, unless there is too much to tell."""
        self._wake.set()
        if event.is_delta and self._add_to_last(event):
            return
        if len(self._events) <= MAX_PENDING:
            self._last_of[event.log] = len(self._events)
            self._events.append(event)

    def _add_to_last(self, delta: Event) -> bool:
        """Make a delta a part of the one before it, where that waits still: of text that streams, one notice has many words."""
        place = self._last_of.get(delta.log)
        if place is None:
            return False
        last = self._events[place]
        if (
            last.type != delta.type
            or not last.data
            or not delta.data
            or last.after_seq != delta.after_seq
        ):
            return False
        text = last.data[DELTA_CONTENT] + delta.data[DELTA_CONTENT]
        if len(text) > MAX_DELTA_CHARACTERS or last.data["turn_id"] != delta.data["turn_id"]:
            return False
        self._events[place] = replace(last, data={**last.data, DELTA_CONTENT: text})
        return True

    async def send(self) -> None:
        """Send what is collected, until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(COLLECT_S)
            self._wake.clear()
            keys, self._keys = self._keys, set()
            events, self._events, self._last_of = self._events, [], {}
            try:
                await self._store.notify(payloads(self._name, keys, events))
            except (DatabaseUnavailable, PoolExhausted, Contention) as e:
                log.debug("notices lost", error=str(e))

    async def listen(self) -> None:
        """Hear what the others send, until cancelled. A connection that breaks is made anew."""
        delay_s = FIRST_RETRY_S
        while True:
            try:
                async with aclosing(self._store.listen()) as notices:
                    async for payload in notices:
                        if payload:
                            delay_s = FIRST_RETRY_S
                            self._take(payload)
                        else:
                            # It listens only now: what came before was missed.
                            self._on_doubt()
            except DatabaseUnavailable as e:
                log.debug("does not listen", error=str(e))
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, LONGEST_RETRY_S)

    def _take(self, payload: str) -> None:
        # Another version of the server may send what this one does not know; that must not end the listening.
        try:
            notice = orjson.loads(payload)
            if notice["from"] == self._name:
                return
            for item in notice["items"]:
                match item:
                    case None:
                        self._on_doubt()
                    case str():
                        self._on_append(UUID(item))
                    case [type_, project_id, session_id, log_, time_us, *rest]:
                        # The version before has no rest.
                        self._on_event(
                            Event(type_, UUID(project_id), session_id, UUID(log_), time_us, *rest)
                        )
        except (ValueError, KeyError, TypeError, AttributeError):
            self._on_doubt()


def payloads(sender: str, keys: Iterable[UUID], events: Iterable[Event]) -> list[str]:
    """EventPublisher as the payloads of few notices."""
    keys, events = list(keys), list(events)
    # A session's messages before its events, so that these find what they come after.
    too_many = len(keys) > MAX_PENDING or len(events) > MAX_PENDING
    items = [b"null"] if too_many else [orjson.dumps(key.hex) for key in keys]
    items += [item for event in events[:MAX_PENDING] for item in _items(event)]
    head, tail = f'{{"from":"{sender}","items":['.encode(), b"]}"
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
    """An event as items of a payload: in pieces, where it adds more text than one has room for."""
    item = orjson.dumps([getattr(event, field.name) for field in fields(event)])
    if len(item) <= MAX_ITEM_BYTES:
        return [item]
    text = event.data[DELTA_CONTENT] if event.is_delta and event.data else ""
    if len(text) < 2:
        return [b"null"]
    halves = (text[: len(text) // 2], text[len(text) // 2 :])
    return [
        item
        for half in halves
        for item in _items(replace(event, data={**(event.data or {}), DELTA_CONTENT: half}))
    ]
