"""Channels: the positions of ephemeral events among messages, and the dropping of events."""

import asyncio
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from sessiond.v1.conversation_service_pb2 import WatchResponse
from sessiond_server.core.events import (
    DELETED,
    DESTROYED,
    ERROR,
    IDLE,
    MESSAGE_DELTA,
    TURN_END,
    TURN_START,
    UPDATED,
    Event,
)
from sessiond_server.messages.store.history import LogHead
from sessiond_server.watch.channel import MAX_EPHEMERAL, Channel
from sessiond_server.watch.encoding import chunk_of_event
from sessiond_server.watch.live_text import RunningText, TextPiece, data_of
from sessiond_server.watch.texts import Texts
from sessiond_server.watch.watcher import Watcher

from ..support.waiting import until_async

PROJECT, LOG = uuid.uuid4(), uuid.uuid4()


class History:
    """Messages 1, 2, 3, ... up to last_seq. Reads return their snapshot once `gate` is set."""

    def __init__(self, last_seq: int) -> None:
        self.last_seq = last_seq
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_reading = False

    async def page(self, query: Any) -> list[tuple[int, int, bytes]]:
        first = query.segments[0].first_seq
        rows = [(seq, 0, b"\x18\x03") for seq in range(first, self.last_seq + 1)]
        self.is_reading = True
        await self.gate.wait()
        self.is_reading = False
        return rows


async def published(key: uuid.UUID) -> None:
    """Return at once, as if no commit were running."""


def unused(channel: Channel) -> None:
    """Do nothing when the channel becomes unused."""


def channel_of(history: History, seq: int) -> tuple[Channel, Watcher]:
    """A channel at a seq, with a live watcher."""
    head = LogHead(LOG, LOG, 0, seq, 0, 0, False, False, ())
    channel = Channel(history, None, published, unused, PROJECT, "one", head)  # type: ignore[arg-type]
    watcher = Watcher("one", seq, 0)
    watcher.go_live()
    channel.watchers.add(watcher)
    return channel, watcher


def event(type_: str, after_seq: int | None) -> Event:
    return Event(type_, PROJECT, "one", LOG, 0, after_seq)


def taken(watcher: Watcher) -> list[int | str]:
    """The seqs of messages and the types of other events that wait in a watcher's queue."""
    found: list[int | str] = []
    while response := watcher.take():
        found += [e.seq or e.type for e in WatchResponse.FromString(response).events]
    return found


async def delivered(seq: int, last_seq: int, events: list[Event]) -> list[int | str]:
    """Return what a watcher at `seq` receives if `events` are published before it reads."""
    channel, watcher = channel_of(History(last_seq), seq)
    for one in events:
        channel.publish(chunk_of_event(one))
    channel.end()
    await channel.run()
    return taken(watcher)


class TestOrder:
    async def test_an_event_is_delivered_between_the_messages_where_it_happened(self) -> None:
        assert await delivered(
            seq=1,
            last_seq=6,
            events=[
                event(TURN_START, 3),
                event(MESSAGE_DELTA, 3),
                event(TURN_END, 4),
                event(TURN_START, 5),
                event(IDLE, 6),
            ],
        ) == [2, 3, TURN_START, MESSAGE_DELTA, 4, TURN_END, 5, TURN_START, 6, IDLE]

    async def test_a_delta_of_a_stored_message_is_not_delivered(self) -> None:
        assert await delivered(
            seq=4, last_seq=4, events=[event(MESSAGE_DELTA, 3), event(TURN_END, 4)]
        ) == [TURN_END]

    async def test_an_event_without_after_seq_follows_the_stored_messages(self) -> None:
        assert await delivered(seq=1, last_seq=3, events=[event(DESTROYED, None)]) == [
            2,
            3,
            DESTROYED,
        ]

    async def test_an_event_published_during_a_read_follows_what_the_next_read_finds(self) -> None:
        history = History(1)
        channel, watcher = channel_of(history, 1)
        history.gate.clear()
        running = asyncio.create_task(channel.run())
        channel.wake()
        await until_async(lambda: history.is_reading, "the channel reads")
        history.last_seq = 2  # after the read's snapshot
        channel.publish(chunk_of_event(event(UPDATED, None)))
        history.gate.set()
        await until_async(lambda: channel.seq == 2, "the channel reads again")
        channel.end()
        await running
        assert taken(watcher) == [2, UPDATED]

    async def test_going_live_drops_deltas_of_messages_that_the_watcher_has(self) -> None:
        watcher = Watcher("one", 2, 0)
        for one in (event(MESSAGE_DELTA, 2), event(MESSAGE_DELTA, 3), event(TURN_END, 3)):
            watcher.push(chunk_of_event(one))
        watcher.after = 3  # it has replayed message 3
        watcher.go_live()
        assert taken(watcher) == [MESSAGE_DELTA, TURN_END]


class TestOverflow:
    @pytest.mark.parametrize("filler", [MESSAGE_DELTA, TURN_START])
    @pytest.mark.parametrize("ending", [TURN_END, ERROR, IDLE, DESTROYED, DELETED])
    async def test_what_ends_something_is_kept(self, filler: str, ending: str) -> None:
        events = [event(filler, 4)] * 5000 + [event(ending, 5)]
        with capture_logs() as logs:
            found = await delivered(seq=4, last_seq=5, events=events)
        assert found == [filler] * (MAX_EPHEMERAL - 1) + [5, ending]
        assert logs == [
            {
                "event": "events_dropped",
                "log_level": "warning",
                "session_id": "one",
                "count": 5001 - MAX_EPHEMERAL,
            }
        ]

    async def test_deltas_are_dropped_before_other_events(self) -> None:
        events = [event(TURN_START, 4), event(MESSAGE_DELTA, 4), event(UPDATED, 4)]
        found = await delivered(seq=4, last_seq=4, events=events * (MAX_EPHEMERAL // 2))
        assert found == [TURN_START, UPDATED] * (MAX_EPHEMERAL // 2)

    async def test_the_queue_is_bounded_whatever_it_holds(self) -> None:
        found = await delivered(seq=4, last_seq=4, events=[event(TURN_END, 4)] * 5000)
        assert found == [TURN_END] * MAX_EPHEMERAL

    async def test_each_burst_is_logged_once(self) -> None:
        history = History(0)
        channel, watcher = channel_of(history, 0)
        running = asyncio.create_task(channel.run())
        with capture_logs() as logs:
            for burst in (1, 2):
                history.gate.clear()
                channel.wake()
                await until_async(lambda: history.is_reading, "the channel reads")
                for _ in range(MAX_EPHEMERAL + burst):
                    channel.publish(chunk_of_event(event(MESSAGE_DELTA, 0)))
                history.gate.set()
                await until_async(lambda burst=burst: len(logs) == burst, "the burst is logged")  # type: ignore[misc]
                assert len(taken(watcher)) == MAX_EPHEMERAL
        channel.close()
        await running
        assert [(log["event"], log["count"]) for log in logs] == [
            ("events_dropped", 1),
            ("events_dropped", 2),
        ]


async def test_whoever_joins_does_not_take_waiting_deltas_from_others() -> None:
    piece = TextPiece("t", 1, 0, "word")
    history = History(1)
    channel, watcher = channel_of(history, 0)
    channel.has_begun = True
    texts = Texts(None)  # type: ignore[arg-type]
    texts.source = SimpleNamespace(  # type: ignore[assignment]
        local=lambda _: RunningText(uuid.uuid4(), True, piece)
    )
    # The delta waits for its message when another watcher joins.
    channel.publish(chunk_of_event(Event(MESSAGE_DELTA, PROJECT, "one", LOG, 0, 1, data_of(piece))))
    await texts.begin(channel, None)
    running = asyncio.create_task(channel.run())
    await until_async(lambda: channel.seq == 1, "the message is delivered")
    await asyncio.sleep(0)
    assert taken(watcher) == [1, MESSAGE_DELTA]
    channel.close()
    await running


async def test_a_new_channel_begins_with_the_text_that_its_process_has_published() -> None:
    channel, watcher = channel_of(History(1), 1)
    piece = TextPiece("t", 1, 0, "word")
    texts = Texts(None)  # type: ignore[arg-type]
    texts.source = SimpleNamespace(  # type: ignore[assignment]
        local=lambda _: RunningText(uuid.uuid4(), True, piece)
    )
    await texts.begin(channel, None)
    await texts.begin(channel, None)
    assert channel.partial
    assert taken(watcher) == ["assistant.message_partial"]


async def test_the_start_of_a_turn_never_follows_its_text() -> None:
    channel, watcher = channel_of(History(1), 1)
    channel.begin_text("t", TextPiece("t", 1, 0, "word"))
    for turn_id in ("t", "later"):
        data = {"turn_id": turn_id}
        channel.publish(chunk_of_event(Event(TURN_START, PROJECT, "one", LOG, 0, 1, data)))
    channel.end()
    await channel.run()
    assert taken(watcher) == ["assistant.message_partial", TURN_START]
