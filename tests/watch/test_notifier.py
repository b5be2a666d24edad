"""Notifications between server processes: their joining, splitting, reading and dropping."""

import asyncio
import json
import uuid
from collections.abc import Sequence
from contextlib import suppress

from structlog.testing import capture_logs

from sessiond_server.core.events import MESSAGE_DELTA, TURN_END, Event
from sessiond_server.watch.notifier import (
    MAX_DELTA_CHARACTERS,
    MAX_DELTAS,
    MAX_PAYLOAD_BYTES,
    Notifier,
    payloads,
)

PROJECT, LOG = uuid.uuid4(), uuid.uuid4()


def delta(text: str, *, turn_id: str = "t", after_seq: int = 1, log: uuid.UUID = LOG) -> Event:
    data = {"turn_id": turn_id, "delta_content": text}
    return Event(MESSAGE_DELTA, PROJECT, "one", log, 5, after_seq, data)


def end() -> Event:
    return Event(TURN_END, PROJECT, "one", LOG, 6, 2, {"turn_id": "t", "state": "completed"})


def text_of(event: Event) -> str:
    return (event.data or {}).get("delta_content", "")  # type: ignore[no-any-return]


class Process:
    """A notifier, what it receives, and the payloads that it sends."""

    def __init__(self) -> None:
        self.appended: list[uuid.UUID] = []
        self.events: list[Event] = []
        self.gaps = 0
        self.wanted: list[tuple[uuid.UUID, bool]] = []
        self.sent: list[str] = []
        self.has_sent = asyncio.Event()
        self.notifier = Notifier(
            self,  # type: ignore[arg-type]
            on_append=self.appended.append,
            on_event=self.events.append,
            on_gap=self.count_gap,
            on_want=lambda turn_id, freeze: self.wanted.append((turn_id, freeze)),
        )

    def count_gap(self) -> None:
        self.gaps += 1

    async def notify(self, sent: Sequence[str]) -> None:
        self.sent += sent
        self.has_sent.set()

    async def send(self, *events: Event) -> list[Event]:
        """Publish events, and return those that another process receives."""
        for event in events:
            self.notifier.publish(event)
        sending = asyncio.create_task(self.notifier.send())
        await self.has_sent.wait()
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending
        return Process().receive(*self.sent).events

    def receive(self, *sent: str) -> "Process":
        for payload in sent:
            self.notifier._receive(payload)
        return self


async def test_consecutive_deltas_of_a_text_are_joined() -> None:
    received = await Process().send(
        delta("a"),
        delta("b"),
        end(),
        delta("c"),
        delta("d", turn_id="u"),
        delta("e", turn_id="u", after_seq=2),
        delta("f", log=uuid.uuid4()),
        delta("g", turn_id="u", after_seq=2),
    )
    assert [text_of(event) for event in received] == ["ab", "", "c", "d", "eg", "f"]


async def test_joined_deltas_have_at_most_2000_characters() -> None:
    received = await Process().send(*[delta("x" * (MAX_DELTA_CHARACTERS // 2))] * 5)
    assert [len(text_of(event)) for event in received] == [2000, 2000, 1000]


async def test_deltas_are_dropped_before_other_events() -> None:
    deltas = [delta("x", log=uuid.uuid4()) for _ in range(MAX_DELTAS + 7)]
    with capture_logs() as logs:
        received = await Process().send(*deltas, end())
    assert received == [*deltas[:MAX_DELTAS], end()]
    assert logs == [{"event": "notifications_dropped", "log_level": "warning", "count": 7}]


def test_payloads_carry_whole_events_in_pieces_that_fit() -> None:
    key = uuid.uuid4()
    texts = ["plain", "x" * 30_000, "\0" * 5_000, "é\U0001f600" * 4_000]
    made = payloads("somebody", [key], [*[delta(text) for text in texts], end()])
    assert all(len(payload.encode()) <= MAX_PAYLOAD_BYTES for payload in made)
    process = Process().receive(*made)
    assert process.appended == [key]
    assert process.events[-1] == end()
    assert "".join(text_of(event) for event in process.events[:-1]) == "".join(texts)
    assert {(event.type, event.after_seq, event.log) for event in process.events[:-1]} == {
        (MESSAGE_DELTA, 1, LOG)
    }


def test_more_sessions_than_500_become_one_item() -> None:
    keys = [uuid.uuid4() for _ in range(400)]
    made = payloads("a", keys, [])
    assert all(len(payload.encode()) <= MAX_PAYLOAD_BYTES for payload in made)
    assert Process().receive(*made).appended == keys
    process = Process().receive(*payloads("a", keys * 2, []))
    assert (process.appended, process.gaps) == ([], 1)


def test_a_notification_of_an_earlier_version_is_read() -> None:
    item = ["session.destroyed", str(PROJECT), "one", str(LOG), 7]
    process = Process().receive(json.dumps({"from": "somebody", "items": [item]}))
    assert process.events == [Event("session.destroyed", PROJECT, "one", LOG, 7)]


def test_an_unreadable_notification_counts_as_a_gap() -> None:
    malformed = ("", "[]", "{}", '{"from":"b","items":["x"]}')
    process = Process().receive(
        *malformed, '{"from":"b","items":[["a","b","c","d","e"]]}', '{"from":"b","items":[null]}'
    )
    assert process.gaps == 6
