"""Watchers of sessions that are rewound, on the server of the rewind and on another one."""

import asyncio
from typing import Any

import pytest

from sessiond.v1.event_pb2 import Event

from ..support.watching import Watcher, watching
from ..support.wire import Wire, error_of
from .test_rewind import letters


def told(events: list[Event]) -> list[Any]:
    """Return (epoch, seq) of messages; (epoch, "to", last_seq, removed_count) of rewinds."""
    found: list[Any] = []
    for event in events:
        if event.seq:
            assert event.message.seq == event.seq
            found.append((event.epoch, event.seq))
        elif event.type == "session.rewound":
            data = event.data
            found.append((event.epoch, "to", data["last_seq"], data["removed_count"]))
    return found


async def some(watcher: Watcher, count: int) -> list[Any]:
    """Return the next events of messages and rewinds."""
    events: list[Event] = []
    while len(told(events)) < count:
        events.append(await watcher.event())
    return told(events)


@pytest.fixture(params=["here", "elsewhere"])
async def watched_at(request: pytest.FixtureRequest, wire: Wire, other: Wire) -> Wire:
    return wire if request.param == "here" else other


async def test_a_rewind_is_told_in_its_place(wire: Wire, watched_at: Wire) -> None:
    await letters(wire, "s", "abc")
    watcher = await watching(watched_at, "s", after_seq=0)
    await wire.rewind("s", "x", "y", to_seq=1)
    await wire.store("s", "z")
    assert await some(watcher, 7) == [
        *[(0, 1), (0, 2), (0, 3)],
        (1, "to", 1, 2),
        *[(1, 2), (1, 3), (1, 4)],
    ]


async def test_the_poll_notices_rewinds_that_nobody_announced(
    wire: Wire, other: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sessiond_server.watch.hub import WatchHub

    await letters(wire, "s", "abc")
    watcher = await watching(other, "s")
    monkeypatch.setattr(WatchHub, "publish", lambda self, event: None)
    monkeypatch.setattr(WatchHub, "messages_appended", lambda self, key: None)
    await wire.rewind("s", "x", to_seq=1)
    assert await some(watcher, 2) == [(1, "to", 1, 2), (1, 2)]


async def test_several_rewinds_between_two_looks_are_told_as_one(
    wire: Wire, watched_at: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sessiond_server.watch.channel import Channel

    await letters(wire, "s", "abcde")
    watcher = await watching(watched_at, "s")
    with monkeypatch.context() as patch:
        patch.setattr(Channel, "look_for_rewinds", lambda self: None)
        await wire.rewind("s", "v", "w", to_seq=4)
        await wire.rewind("s", *"xyz", to_seq=2)
        await wire.rewind("s", drop_last=1)
        await wire.rewind("s", "end", drop_last=1)
    # At the next poll, the channel looks for rewinds. It reports one rewind, to the lowest cut,
    # without the messages that were stored between the rewinds.
    assert await some(watcher, 3) == [(4, "to", 2, 3), (4, 3), (4, 4)]


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ({"after_seq": 5, "after_epoch": 0}, [(2, "to", 2, 3), (2, 3), (2, 4)]),
        ({"after_seq": 1, "after_epoch": 0}, [(2, "to", 2, 3), (2, 2), (2, 3), (2, 4)]),
        ({"after_seq": 6, "after_epoch": 1}, [(2, "to", 2, 4), (2, 3), (2, 4)]),
        ({"after_seq": 3, "after_epoch": 2}, [(2, 4)]),
        ({"after_seq": 3}, [(2, 4)]),
    ],
)
async def test_a_watcher_that_comes_back_is_told_the_lowest_cut(
    wire: Wire, watched_at: Wire, after: dict[str, int], expected: list[Any]
) -> None:
    await letters(wire, "s", "abcde")
    await wire.rewind("s", "v", "w", to_seq=4)
    await wire.rewind("s", "x", "y", to_seq=2)
    watcher = await watching(watched_at, "s", **after)
    assert await some(watcher, len(expected)) == expected
    await wire.store("s", "z")
    assert await some(watcher, 1) == [(2, 5)]


async def test_a_watcher_from_before_the_remembered_rewinds_begins_anew(wire: Wire) -> None:
    await letters(wire, "s", "abc")
    for _ in range(65):
        await wire.rewind("s", "x", to_seq=2)
    watcher = await watching(wire, "s", after_seq=3, after_epoch=0)
    assert await some(watcher, 4) == [(65, "to", 0, 0), (65, 1), (65, 2), (65, 3)]
    watcher = await watching(wire, "s", after_seq=3, after_epoch=1)
    assert await some(watcher, 2) == [(65, "to", 2, 1), (65, 3)]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"after_seq": 4}, "after_seq"),
        ({"after_seq": 4, "after_epoch": 1}, "after_seq"),
        ({"after_seq": 1, "after_epoch": 2}, "after_epoch"),
        ({"after_seq": 1, "after_epoch": -1}, "after_epoch"),
        ({"after_epoch": 1}, "after_epoch"),
    ],
)
async def test_a_place_where_the_session_never_was_is_refused(
    wire: Wire, fields: dict[str, int], field: str
) -> None:
    await letters(wire, "s", "abcd")
    await wire.rewind("s", drop_last=1)
    error = await error_of(Watcher(wire, "s", fields).call)
    assert (error.reason, list(error.fields)) == ("INVALID_FIELD", [field])


async def test_a_replay_follows_rewinds(wire: Wire, watched_at: Wire) -> None:
    """The watcher is still reading stored messages when the session is rewound."""
    await wire.create("s")
    for _ in range(4):
        await wire.store("s", *["x" * 20_000] * 50)
    watcher = Watcher(watched_at, "s", {"after_seq": 0})
    events = [await watcher.event()]
    await wire.rewind("s", "y", to_seq=100)
    while (events[-1].epoch, events[-1].seq) != (1, 101):
        events.append(await watcher.event())
    found = told(events)
    place = next(i for i, one in enumerate(found) if len(one) == 4)
    assert found[place] == (1, "to", 100, 100)
    assert found[:place] == [(0, seq) for seq in range(1, place + 1)]
    kept = min(place, 100)
    assert found[place + 1 :] == [(1, seq) for seq in range(kept + 1, 102)]


async def test_watchers_see_every_history_while_it_changes(wire: Wire, other: Wire) -> None:
    """Each watcher applies its events, and ends with the stored history."""
    await letters(wire, "s", "abc")
    watchers = [await watching(at, "s", after_seq=0) for at in (wire, other)]

    async def follow(watcher: Watcher) -> list[str]:
        history: list[str] = []
        epoch = 0
        while True:
            event = await watcher.event()
            if event.type == "session.rewound":
                assert event.epoch > epoch
                epoch = event.epoch
                del history[int(event.data["last_seq"]) :]
            elif event.seq:
                assert (event.epoch, event.seq) == (epoch, len(history) + 1)
                history.append(event.message.json)
                if "the end" in event.message.json:
                    return history

    following = [asyncio.create_task(follow(watcher)) for watcher in watchers]
    for i in range(100):
        at = wire if i % 3 else other
        last_seq = (await wire.get("s")).last_seq
        if i % 4 == 3:
            await at.rewind("s", *["r"] * (i % 3), to_seq=max(last_seq - i % 7, 0))
        else:
            await at.store("s", *[f"{i}"] * (1 + i % 5))
    await other.store("s", "the end")
    stored = [message.json for message in await wire.read("s")]
    assert await asyncio.gather(*following) == [stored, stored]
