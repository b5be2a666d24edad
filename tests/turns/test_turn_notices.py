"""What happens in turns, on its way to other server processes: joined, cut in pieces, and put where it belongs."""

import json
import uuid
from typing import Any

from sessiond_server.core.events import MESSAGE_DELTA, TURN_END, Event
from sessiond_server.messages.store.history import LogHead
from sessiond_server.watch.channel import Channel, Chunk, Watcher
from sessiond_server.watch.notifier import (
    MAX_DELTA_CHARACTERS,
    MAX_PAYLOAD_BYTES,
    Notifier,
    payloads,
)

PROJECT, LOG = uuid.uuid4(), uuid.uuid4()


def delta(text: str, *, turn_id: str = "t", after_seq: int = 1, log: uuid.UUID = LOG) -> Event:
    return Event(
        MESSAGE_DELTA,
        PROJECT,
        "one",
        log,
        5,
        after_seq,
        {"turn_id": turn_id, "delta_content": text},
    )


def end() -> Event:
    return Event(TURN_END, PROJECT, "one", LOG, 6, 2, {"turn_id": "t", "state": "completed"})


class Heard:
    """Notifier that keep what would be sent, and what they take."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.appended: list[uuid.UUID] = []
        self.notices = Notifier(
            None,
            on_append=self.appended.append,
            on_event=self.events.append,
            on_gap=lambda: None,
        )  # type: ignore[arg-type]

    @property
    def waiting(self) -> list[Event]:
        return self.notices._events


def test_deltas_in_a_row_are_one() -> None:
    heard = Heard()
    for event in (
        delta("a"),
        delta("b"),
        end(),
        delta("c"),
        delta("d", turn_id="u"),
        delta("e", turn_id="u", after_seq=2),
    ):
        heard.notices.publish(event)
    heard.notices.publish(delta("f", log=uuid.uuid4()))
    heard.notices.publish(delta("g", turn_id="u", after_seq=2))
    found = [(event.data or {}).get("delta_content") for event in heard.waiting]
    assert found == ["ab", None, "c", "d", "eg", "f"]


def test_a_delta_grows_up_to_a_limit() -> None:
    heard = Heard()
    for _ in range(5):
        heard.notices.publish(delta("x" * (MAX_DELTA_CHARACTERS // 2)))
    assert [len((event.data or {})["delta_content"]) for event in heard.waiting] == [
        2000,
        2000,
        1000,
    ]


def test_what_is_sent_is_what_is_taken() -> None:
    heard = Heard()
    key = uuid.uuid4()
    texts = ["plain", "x" * 30_000, "\0" * 5_000, "é\U0001f600" * 4_000]
    sent = [*[delta(text) for text in texts], end()]
    made = payloads("somebody", [key], sent)
    assert all(len(payload.encode()) <= MAX_PAYLOAD_BYTES for payload in made)
    for payload in made:
        heard.notices._take(payload)
    assert heard.appended == [key]
    assert heard.events[-1] == sent[-1]
    assert "".join((event.data or {})["delta_content"] for event in heard.events[:-1]) == "".join(
        texts
    )
    assert {(event.type, event.after_seq, event.log) for event in heard.events[:-1]} == {
        (MESSAGE_DELTA, 1, LOG)
    }


def test_a_notice_of_the_version_before_is_understood() -> None:
    heard = Heard()
    item = ["session.destroyed", str(PROJECT), "one", str(LOG), 7]
    heard.notices._take(json.dumps({"from": "somebody", "items": [item]}))
    assert heard.events == [Event("session.destroyed", PROJECT, "one", LOG, 7)]


class History:
    """Messages 1, 2, 3, ... of which so many are there."""

    def __init__(self, last_seq: int) -> None:
        self.last_seq = last_seq

    async def page(self, query: Any) -> list[tuple[int, int, bytes]]:
        first = query.segments[0].first_seq
        return [(seq, 0, b"\x18\x03") for seq in range(first, self.last_seq + 1)]


def chunk(name: str, after_seq: int | None, *, is_delta: bool = False) -> Chunk:
    return Chunk(name.encode(), after_seq=after_seq, is_delta=is_delta)


async def nothing_to_tell(key: uuid.UUID) -> None:
    pass


async def handed_out(*, seq: int, last_seq: int, told: list[Chunk]) -> list[int | str]:
    """What a live watcher gets of a channel at `seq`, when messages up to last_seq are there, and events were told meanwhile."""
    channel = Channel(
        History(last_seq), nothing_to_tell, PROJECT, "one", LogHead(LOG, seq, 0, 0, False, ())
    )  # type: ignore[arg-type]
    watcher = Watcher("one", seq)
    watcher.go_live()
    channel.watchers.add(watcher)
    for one in told:
        channel.tell(one)
    channel.end()
    await channel.run()
    given: list[int | str] = []
    for one in watcher._queue:
        given += (
            range(one.last_seq - len(one.ends) + 1, one.last_seq + 1)
            if one.last_seq
            else [one.encoded.decode()]
        )
    return given


async def test_an_event_comes_between_the_messages_where_it_happened() -> None:
    told = [
        chunk("start", 3),
        chunk("delta", 3, is_delta=True),
        chunk("end", 4),
        chunk("start 2", 5),
        chunk("idle", 6),
    ]
    found = await handed_out(seq=1, last_seq=6, told=told)
    assert found == [2, 3, "start", "delta", 4, "end", 5, "start 2", 6, "idle"]


async def test_a_delta_of_a_message_that_is_there_is_dropped() -> None:
    assert await handed_out(
        seq=4, last_seq=4, told=[chunk("delta", 3, is_delta=True), chunk("end", 4)]
    ) == ["end"]


async def test_an_event_without_a_place_comes_behind_what_is_stored() -> None:
    assert await handed_out(seq=1, last_seq=3, told=[chunk("destroyed", None)]) == [
        2,
        3,
        "destroyed",
    ]


async def test_what_comes_before_a_watcher_is_live_is_put_right() -> None:
    watcher = Watcher("one", 2)
    for one in (chunk("late", 2, is_delta=True), chunk("delta", 3, is_delta=True), chunk("end", 3)):
        watcher.push(one)
    watcher.after = 3  # it has read its past meanwhile
    watcher.go_live()
    assert [one.encoded for one in watcher._queue] == [b"delta", b"end"]
