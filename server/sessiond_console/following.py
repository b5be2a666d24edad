"""Live tails: one watch of a session serves all tabs that follow it.

Each tab gets every message once and in order. A tab names the last seq that it has, and first gets
the later messages of the history. After that it gets the events of the watch, without the messages
that it has already. The text of the running answer is kept here, so that a tab that joins late or
rejoins gets the whole text. When the watch loses its connection to the server, tabs get the event
"cut" with the time of the loss. When it is connected again, they get the event "live". A tab also
gets "live" when it has received the history.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from sessiond import AsyncClient, Event, Message
from sessiond.errors import NotFound, SessiondError, Unauthenticated

# A tab that is this many events behind is cut off. It comes back and reads them from the history.
MAX_BEHIND = 1000
# Deltas that arrive within this time are sent together, so that browsers need not repaint for every
# token.
FLUSH_S = 0.1
KEEP_ALIVE_S = 15.0
# How long a session is still watched after its last tab has left. The tab may only have lost its
# connection.
LINGER_S = 30.0
# How often to look up the turns of answers that have had no event since the last check. If such a
# turn ended while the console could not reach a server, the console missed the event that would
# remove the answer's text.
CHECK_S = 5.0
# Maximum length of the text that is kept of a running answer.
MAX_ANSWER_CHARACTERS = 1024 * 1024

_DELTAS = {"assistant.message_delta": "answer", "assistant.reasoning_delta": "reasoning"}
_PARTIAL = "assistant.message_partial"
_ENDED = ("completed", "failed", "aborted")
_TURN_EVENTS = ("assistant.turn_start", "assistant.turn_end", "session.error", "session.idle")


@dataclass(slots=True)
class Item:
    """A server-sent event for a tab."""

    name: str
    data: dict[str, Any]
    message: Message | None = None
    encoded: bytes = b""
    """The encoded event of a message; empty until the first tab has rendered it."""


@dataclass(slots=True)
class _Answer:
    """The text of a running turn's answer so far."""

    answer: str = ""
    reasoning: str = ""
    has_news: bool = True
    """Whether text has come since the last check."""


@dataclass(eq=False, slots=True)
class _Tab:
    queue: asyncio.Queue[Item | None] = field(default_factory=lambda: asyncio.Queue(MAX_BEHIND))

    def put(self, item: Item | None) -> None:
        try:
            self.queue.put_nowait(item)
        except asyncio.QueueFull:
            # Drop the tab's events. None makes the tab reconnect, and read the history again.
            while not self.queue.empty():
                self.queue.get_nowait()
            self.queue.put_nowait(None)


class Follower:
    """Watches one session for all tabs of one signed-in browser, or of all browsers without keys.

    Args:
        api: the client.
        session_id: the session.
        on_end: called when the watch has ended.

    Attributes:
        cut: the event "cut" of the last loss of the connection; None while the watch is connected
            to a server.
    """

    def __init__(self, api: AsyncClient, session_id: str, on_end: Callable[[], None]) -> None:
        self._api = api
        self._session_id = session_id
        self._on_end = on_end
        self.cut: Item | None = None
        self._tabs: set[_Tab] = set()
        self._lingering: asyncio.TimerHandle | None = None
        self._answers: dict[str, _Answer] = {}
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._watch())
        self._checking = asyncio.create_task(self._check_answers())

    @asynccontextmanager
    async def tab(self) -> AsyncIterator[tuple[asyncio.Queue[Item | None], list[Item]]]:
        """Follow the session for the duration of the block.

        Yields:
            The queue of the tab's events, and the texts of the running answers so far. None in the
            queue means that the watch is over.

        Raises:
            SessiondError: if the session cannot be watched.
        """
        tab = _Tab()
        self._tabs.add(tab)
        if self._lingering:
            self._lingering.cancel()
        try:
            await asyncio.shield(self._ready)
            yield tab.queue, [self._snapshot(turn_id) for turn_id in self._answers]
        finally:
            self._tabs.discard(tab)
            if not self._tabs:
                loop = asyncio.get_running_loop()
                self._lingering = loop.call_later(LINGER_S, self.end)

    def end(self) -> None:
        """End the watch."""
        self._task.cancel()

    async def _watch(self) -> None:
        try:
            info = await self._api.sessions.get(self._session_id)
            # A tab that reads the history from now on sees all messages that precede this watch.
            self._ready.set_result(None)
            events = self._api.sessions.events(
                self._session_id,
                info.last_seq,
                after_epoch=info.epoch,  # The session may have been rewound since.
                on_connection=self._on_connection,
            )
            async for event in events:
                for item in self._items(event):
                    for tab in self._tabs:
                        tab.put(item)
        except SessiondError as error:
            if not self._ready.done():
                self._ready.set_exception(error)
                # Retrieve the exception, in case no tab is waiting any more.
                self._ready.exception()
            elif isinstance(error, NotFound):
                self._tell_all("gone")
            elif isinstance(error, Unauthenticated):
                self._tell_all("denied")
        finally:
            for tab in self._tabs:
                tab.put(None)
            self._ready.cancel()
            self._checking.cancel()
            self._on_end()

    def _on_connection(self, is_open: bool) -> None:
        if is_open and self.cut:
            self.cut = None
            self._tell_all("live")
        elif not is_open:
            self.cut = Item("cut", {"since": f"{datetime.now(UTC):%H:%M:%S} UTC"})
            self._tell_all(self.cut.name, self.cut.data)

    async def _check_answers(self) -> None:
        """Remove the texts of turns whose end was missed."""
        while True:
            await asyncio.sleep(CHECK_S)
            for turn_id, answer in list(self._answers.items()):
                if answer.has_news:
                    answer.has_news = False
                    continue
                with suppress(SessiondError):
                    turn = await self._api.sessions.get_turn(self._session_id, turn_id)
                    if turn.state in _ENDED and turn_id in self._answers:
                        del self._answers[turn_id]
                        self._tell_all("turn", {"turn": turn_id, "type": "assistant.turn_end"})
                        if turn.error:
                            self._tell_all("turn", {"turn": turn_id, "type": "session.error"})

    def _tell_all(self, name: str, data: dict[str, Any] | None = None) -> None:
        for tab in self._tabs:
            tab.put(Item(name, data or {}))

    def _items(self, event: Event) -> list[Item]:
        message = event.message
        if message:
            # The stored message replaces the text of its turn so far.
            self._answers.pop(_answered_turn(message), None)
            return [_message_item(message)]
        turn_id = str(event.data.get("turn_id") or "")
        if kind := _DELTAS.get(event.type):
            text = str(event.data.get("delta_content") or "")
            answer = self._answers.setdefault(turn_id, _Answer())
            answer.has_news = True
            kept = getattr(answer, kind)
            if len(kept) < MAX_ANSWER_CHARACTERS:
                setattr(answer, kind, kept + text)
            return [Item("delta", {"turn": turn_id, "kind": kind, "text": text})]
        if event.type == _PARTIAL:
            text = str(event.data.get("content") or "")
            answer = self._answers.setdefault(turn_id, _Answer())
            answer.answer, answer.has_news = text, True
            return [self._snapshot(turn_id)]
        if event.type in _TURN_EVENTS:
            if event.type == "assistant.turn_end":
                self._answers.pop(turn_id, None)
            return [Item("turn", {"turn": turn_id, "type": event.type})]
        if event.type == "session.rewound":
            self._answers.clear()
            last_seq = int(event.data.get("last_seq") or 0)
            return [Item("rewound", {"last_seq": last_seq, "epoch": event.proto.epoch})]
        return [Item("session", {"type": event.type})]

    def _snapshot(self, turn_id: str) -> Item:
        answer = self._answers[turn_id]
        data = {"turn": turn_id, "answer": answer.answer, "reasoning": answer.reasoning}
        return Item("answer", data)


class Followers:
    """The followers of this console, by client and session."""

    def __init__(self) -> None:
        self._followers: dict[tuple[int, str], Follower] = {}

    def of(self, api: AsyncClient, session_id: str) -> Follower:
        """Return the follower of a session, started if there is none."""
        key = (id(api), session_id)
        found = self._followers.get(key)
        if found is None:
            found = Follower(api, session_id, lambda: self._forget(key, found))
            self._followers[key] = found
        return found

    def close(self) -> None:
        """End all watches."""
        for follower in list(self._followers.values()):
            follower.end()

    def _forget(self, key: tuple[int, str], follower: Follower | None) -> None:
        if self._followers.get(key) is follower:
            del self._followers[key]


async def tail(
    followers: Followers,
    api: AsyncClient,
    session_id: str,
    after_seq: int,
    render: Callable[[Message], str],
    *,
    epoch: int | None = None,
) -> AsyncGenerator[bytes, None]:
    """Yield the server-sent events of one tab: the messages after a seq, then new events.

    Args:
        followers: the console's followers.
        api: the client.
        session_id: the session.
        after_seq: the last seq that the tab has.
        render: returns the HTML of a message.
        epoch: the epoch that the session had when the tab got its messages. None = the current one.

    Raises:
        SessiondError: if the session cannot be watched or read.
    """
    last_seq = after_seq
    if epoch is not None and epoch != (await api.sessions.get(session_id)).epoch:
        # The session was rewound while the tab was disconnected, so the tab's seqs are outdated.
        yield event_bytes("reload", {})
        return
    follower = followers.of(api, session_id)
    async with follower.tab() as (queue, running):
        yield b": connected\n\n"
        if follower.cut:
            yield _encoded(follower.cut, render)
        answers = running
        async for message in api.sessions.get_messages(session_id, after_seq=last_seq):
            last_seq = message.seq
            item = _message_item(message)
            answers = [one for one in answers if one.data["turn"] != item.data["turn"]]
            yield _encoded(item, render)
            # Let other tasks run during a long history, and notice if the tab has left.
            await asyncio.sleep(0)
        for item in answers:
            yield _encoded(item, render)
        # Not before: a history that is being read from a server that is away ends only later.
        if not follower.cut:
            yield event_bytes("live", {})
        while True:
            batch = await _batch(queue)
            if not batch:
                yield b": still here\n\n"
            for happened in batch:
                if happened is None:
                    return
                if happened.name == "rewound":
                    last_seq = min(last_seq, happened.data["last_seq"])
                if happened.message:
                    if happened.message.seq <= last_seq:
                        # The tab already has this message from the history, but may have received
                        # deltas of it since.
                        if happened.data["turn"]:
                            yield event_bytes("answered", {"turn": happened.data["turn"]})
                        continue
                    last_seq = happened.message.seq
                yield _encoded(happened, render)


def _message_item(message: Message) -> Item:
    return Item("message", {"seq": message.seq, "turn": _answered_turn(message)}, message)


def _answered_turn(message: Message) -> str:
    """Return the turn_id of a message that is an answer; "" if it is no answer."""
    return message.turn.turn_id if message.turn and message.role == "assistant" else ""


async def _batch(queue: asyncio.Queue[Item | None]) -> list[Item | None]:
    """Return the next events, with deltas of one text joined; [] if none came for a long time."""
    try:
        async with asyncio.timeout(KEEP_ALIVE_S):
            batch = [await queue.get()]
    except TimeoutError:
        return []
    await asyncio.sleep(FLUSH_S)
    while not queue.empty():
        item, last = queue.get_nowait(), batch[-1]
        if item and last and _is_one_text(last, item):
            joined = last.data["text"] + item.data["text"]
            batch[-1] = Item("delta", {**item.data, "text": joined})
        else:
            batch.append(item)
    return batch


def _is_one_text(first: Item, second: Item) -> bool:
    return first.name == second.name == "delta" and all(
        first.data[key] == second.data[key] for key in ("turn", "kind")
    )


def _encoded(item: Item, render: Callable[[Message], str]) -> bytes:
    if not item.message:
        return event_bytes(item.name, item.data)
    if not item.encoded:
        data = item.data | {"html": render(item.message)}
        item.encoded = event_bytes(item.name, data, item.message.seq)
    return item.encoded


def event_bytes(name: str, data: dict[str, Any], event_id: int | None = None) -> bytes:
    """Return a server-sent event. A line break would end its data, but encoded JSON has none."""
    head = f"id: {event_id}\n" if event_id is not None else ""
    try:
        body = orjson.dumps(data)
    except orjson.JSONEncodeError:
        # A delta may end within a surrogate pair, and UTF-8 cannot encode half of a pair.
        clean = {
            key: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
            for key, value in data.items()
        }
        body = orjson.dumps(clean)
    return b"%sevent: %s\ndata: %s\n\n" % (head.encode(), name.encode(), body)
