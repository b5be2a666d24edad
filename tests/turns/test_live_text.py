"""Watchers that join a running answer receive the text so far, then each character once."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from sessiond.v1.message_pb2 import Message
from sessiond_server.core.events import MESSAGE_DELTA, Event
from sessiond_server.server import Running
from sessiond_server.settings import Settings
from sessiond_server.turns.texts import text_saver
from sessiond_server.watch.notifier import Notifier

from ..support.model_server import ModelServer, Reply
from ..support.turns import Sent, sending
from ..support.watching import Watcher, watching
from ..support.wire import Wire
from .calls import IMMEDIATE, abort, connected, held, turn_of
from .live_texts import Page

WORDS = "one \N{GRINNING FACE} three four"
TWO = "one \N{GRINNING FACE} "
HELD = Reply(WORDS, after=3, then="hold")


async def send_two_words(wire: Wire, models: ModelServer, **fields: Any) -> Sent:
    """Send, and wait until the caller has seen two of four words."""
    models.script(HELD)
    sent = await sending(wire, "one", "hi", **fields)
    await held(models)
    while sent.delta_text != TWO:
        assert await sent.read()
    return sent


async def shown(watcher: Watcher, text: str) -> Page:
    """Wait until a watcher's page shows a text."""
    page = Page()
    while page.text != text:
        page.take([await watcher.event()])
    return page


@pytest.fixture(params=["here", "there"])
def joined(request: pytest.FixtureRequest, one: Wire, other: Wire) -> Wire:
    """The server that runs the turn, or another one."""
    return one if request.param == "here" else other


async def test_a_repeated_send_begins_with_the_text_so_far(
    one: Wire, joined: Wire, models: ModelServer
) -> None:
    await send_two_words(one, models, request_id="r")
    again, page = await sending(joined, "one", "hi", request_id="r"), Page()
    await again.until("assistant.message_partial")
    models.release()
    await again.end()
    page.take(again.events)
    assert page.is_first_partial
    # The end of the text may arrive only as part of the message.
    assert WORDS.startswith(page.text)
    answer = await again.until("assistant.message")
    assert json.loads(answer.message.json)["content"] == WORDS
    types = [type_ for type_ in again.types if "message" in type_]
    assert types[:2] == ["user.message", "assistant.message_partial"]


async def test_a_watch_begins_with_the_text_so_far_and_goes_on(
    one: Wire, joined: Wire, models: ModelServer
) -> None:
    sent = await send_two_words(one, models)
    watcher = await watching(joined, "one", after_seq=0)
    page = await shown(watcher, TWO)
    assert page.is_first_partial
    models.release()
    await sent.end()
    while page.text != WORDS:
        event = await watcher.event()
        if event.type == "assistant.message":
            assert WORDS.startswith(page.text)
            break
        page.take([event])


async def test_a_watcher_that_was_there_receives_every_character(
    one: Wire, joined: Wire, models: ModelServer
) -> None:
    watcher = await watching(joined, "one")
    await send_two_words(one, models)
    await shown(watcher, TWO)


async def test_a_text_of_many_notifications_is_whole(
    one: Wire, other: Wire, models: ModelServer
) -> None:
    watcher = await watching(other, "one")
    text = "".join(f"{number:07} " for number in range(3000))
    models.script(Reply(text, after=3001, then="hold"))
    await sending(one, "one", "hi")
    await shown(watcher, text)


async def test_lost_notifications_are_made_up_for(
    one: Wire,
    server: Running,
    other: Wire,
    models: ModelServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish = Notifier.publish

    def lossy(self: Notifier, event: Event) -> None:
        data = event.data or {}
        if event.type == MESSAGE_DELTA and data["delta_content"].startswith("0000000"):
            lost.append(event)
        else:
            publish(self, event)

    lost: list[Event] = []
    monkeypatch.setattr(Notifier, "publish", lossy)
    watcher = await watching(other, "one")
    await send_two_words(one, models)
    await shown(watcher, TWO)
    [running] = server.runner.running()
    later = [f"{number:07} " for number in range(3)]
    for piece in later:
        running.text.add(piece)
        server.runner._announcements.flush(running)
    page = Page()
    page.text, page._answered = TWO, 1
    while page.text != TWO + "".join(later):
        page.take([await watcher.event()])
    assert lost


async def test_messages_of_others_do_not_end_the_deltas(
    one: Wire, joined: Wire, models: ModelServer
) -> None:
    watcher = await watching(joined, "one", after_seq=0)
    sent = await send_two_words(one, models)
    page = await shown(watcher, TWO)
    await one.store("one", "meanwhile")
    while (await watcher.event()).seq != 2:
        pass
    models.release()
    await sent.end()
    event = await watcher.event()
    while event.type != "assistant.message":
        page.take([event])
        event = await watcher.event()
    if joined is one:
        assert page.text == WORDS


async def test_each_answer_of_a_steered_turn_has_its_own_text(
    one: Wire, models: ModelServer
) -> None:
    sent = await send_two_words(one, models)
    models.script(Reply("other words"))
    await sending(one, "one", "quickly", mode=IMMEDIATE)
    watcher, page = await watching(one, "one"), Page()
    models.release()
    await sent.end()
    texts: list[str] = []
    while len(texts) < 2:
        event = await watcher.event()
        page.take([event])
        if event.type == "assistant.message":
            texts.append(page.text)
    assert texts == [WORDS, "other words"]


async def test_whoever_joins_between_two_answers_gets_no_text(
    one: Wire, models: ModelServer
) -> None:
    sent = await send_two_words(one, models)
    models.release()
    await sent.end()
    watcher = await watching(one, "one", after_seq=0)
    await one.store("one", "next")
    types = {event.type for event in await watcher.through(3)}
    assert "assistant.message_partial" not in types


async def test_an_abort_at_another_server_keeps_all_that_was_seen(
    one: Wire, other: Wire, models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The text is saved only on request.
    monkeypatch.setattr(text_saver, "INTERVAL_S", 3600)
    sent = await send_two_words(one, models)
    await abort(other)
    assert (await sent.error()).reason == "TURN_ABORTED"
    turn = await turn_of(other, sent.turn.turn_id)
    message: Message = await other.message("one", turn.partial_seq)
    assert json.loads(message.json)["content"] == TWO == sent.delta_text


async def test_deltas_that_nobody_watches_elsewhere_are_not_sent_there(
    one: Wire, other: Wire, models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, sent_away = Notifier.publish, []

    def recorded(self: Notifier, event: Event) -> None:
        sent_away.append(event.type)
        publish(self, event)

    monkeypatch.setattr(Notifier, "publish", recorded)
    sent = await send_two_words(one, models)
    models.release()
    await sent.end()
    assert sent.delta_text == WORDS
    assert MESSAGE_DELTA not in sent_away
    assert "assistant.turn_end" in sent_away


async def test_a_server_without_notifications_begins_with_the_text_so_far(
    one: Wire, settings: Settings, database_url: str, models: ModelServer, query: Callable[..., Any]
) -> None:
    await send_two_words(one, models)
    while not query("SELECT start FROM turn_texts"):
        await asyncio.sleep(0.01)
    deaf = settings.model_copy(update={"prepared_statements": False})
    async with connected(deaf, database_url) as wire:
        assert (await shown(await watching(wire, "one"), TWO)).is_first_partial


async def test_a_send_that_steers_begins_with_the_text_so_far(
    one: Wire, joined: Wire, models: ModelServer
) -> None:
    await send_two_words(one, models)
    models.script(Reply("other words"))
    steering, page = await sending(joined, "one", "quickly", mode=IMMEDIATE), Page()
    event = await steering.until("assistant.message_partial")
    assert event.data["content"] == TWO
    models.release()
    await steering.end()
    page.take(steering.events)
    assert [type_ for type_ in steering.types if type_ == "assistant.message_partial"] == [
        "assistant.message_partial"
    ]


async def test_a_server_without_notifications_shows_what_is_added_by_polls(
    one: Wire, settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessiond_server.watch.hub.POLL_S", 0.1)
    text = " ".join(str(number) for number in range(60))
    options = {"echo_text": text, "echo_delay_ms": 50}
    deaf = settings.model_copy(update={"prepared_statements": False})
    async with connected(deaf, database_url) as wire:
        sent = await sending(one, "one", "hi", model="echo", options=options)
        await sent.until("assistant.message_delta")
        watcher, page, pieces = await watching(wire, "one", after_seq=0), Page(), 0
        event = await watcher.event()
        while event.type != "assistant.message":
            page.take([event])
            pieces += event.type in ("assistant.message_partial", "assistant.message_delta")
            event = await watcher.event()
        assert text.startswith(page.text)
        assert pieces >= 2
