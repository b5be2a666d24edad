"""Live tails: every message once and in order, and the running answer whole."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import pytest

from sessiond import AsyncClient, AsyncSession, Message, SessionInfo
from sessiond.errors import SessionNotFound, TurnFailed
from sessiond_console import following
from sessiond_console.following import Followers, event_bytes, tail
from sessiond_console.pages import live

from ..support.proxy import CuttingProxy
from ..support.waiting import PATIENCE_S
from .conftest import Browser

TIMEOUT_S = PATIENCE_S
# An answer that no test waits for.
WORDS = " ".join(f"word{i}" for i in range(2_000))
ENDLESS = {"echo_text": WORDS, "echo_delay_ms": 30}


class Reader:
    """Reads the stream of one tab."""

    def __init__(self, stream: AsyncGenerator[bytes, None]) -> None:
        self.stream = stream
        self.events: list[tuple[str, dict[str, Any]]] = []

    async def until(self, name: str, **data: Any) -> dict[str, Any]:
        """Wait for the next event that has this name and this data, and return all its data."""
        async with asyncio.timeout(TIMEOUT_S):
            async for piece in self.stream:
                fields = dict(
                    line.split(": ", 1) for line in piece.decode().splitlines() if ": " in line
                )
                if "event" not in fields:
                    continue
                self.events.append((fields["event"], json.loads(fields["data"])))
                found = self.events[-1]
                if found[0] == name and data.items() <= found[1].items():
                    return found[1]
        raise AssertionError(f"the stream ended without {name}: {self.events}")

    @property
    def seqs(self) -> list[int]:
        return [data["seq"] for name, data in self.events if name == "message"]


@pytest.fixture
async def session(api: AsyncClient) -> AsyncSession:
    return await api.create_session("s", model="echo")


def html(message: Message) -> str:
    return f"<p>{message.content}</p>"


def tab(api: AsyncClient, followers: Followers, after: int = 0) -> Reader:
    return Reader(tail(followers, api, "s", after, html))


async def store(session: AsyncSession, *texts: str) -> None:
    await session.store_messages([{"role": "user", "content": text} for text in texts])


async def test_a_tab_gets_the_history_and_then_what_comes(
    api: AsyncClient, session: AsyncSession
) -> None:
    followers = Followers()
    await store(session, "1", "2", "3")
    reader = tab(api, followers, after=1)
    await reader.until("message", seq=3)
    await store(session, "4", "5")
    found = await reader.until("message", seq=5)
    assert found["html"] == "<p>5</p>"
    assert reader.seqs == [2, 3, 4, 5]
    followers.close()


async def test_tabs_that_come_and_go_get_every_message_once(
    api: AsyncClient, session: AsyncSession
) -> None:
    followers = Followers()
    seen: list[int] = []
    count = 60

    async def write() -> None:
        for i in range(count):
            await store(session, str(i))

    writing = asyncio.create_task(write())
    while len(seen) < count:
        reader = tab(api, followers, after=seen[-1] if seen else 0)
        await reader.until("message")
        await reader.stream.aclose()
        seen += reader.seqs
    await writing
    assert seen == list(range(1, count + 1))
    followers.close()


async def test_all_tabs_share_one_watch(api: AsyncClient, session: AsyncSession) -> None:
    followers = Followers()
    readers = [tab(api, followers) for _ in range(5)]
    await store(session, "1")
    for reader in readers:
        await reader.until("message", seq=1)
    assert len(followers._followers) == 1
    followers.close()


async def test_a_tab_is_live_once_it_has_the_history(
    api: AsyncClient, session: AsyncSession
) -> None:
    """A history that cannot be read, because the server is away, must not look live."""
    followers = Followers()
    await store(session, "1")
    reader = tab(api, followers)
    await reader.until("live")
    assert [name for name, _ in reader.events] == ["message", "live"]
    await reader.stream.aclose()
    followers.close()


async def test_tabs_are_told_that_the_server_is_away_and_that_it_is_back(
    api: AsyncClient, session: AsyncSession
) -> None:
    followers = Followers()
    with CuttingProxy(api.target) as proxy:
        async with AsyncClient(proxy.target) as client:
            first = tab(client, followers)
            await store(session, "1")
            await first.until("message", seq=1)
            proxy.cut()
            await first.until("cut")
            await first.until("live")
            await store(session, "2")
            await first.until("message", seq=2)
            assert first.seqs == [1, 2]
            proxy.stop_listening()
            since = (await first.until("cut"))["since"]
            # A tab that connects meanwhile is told as well.
            late = tab(client, followers, after=2)
            assert (await late.until("cut"))["since"] == since
            await late.stream.aclose()
            await first.stream.aclose()
            followers.close()


async def test_a_tab_that_joins_late_gets_the_running_answer_whole(
    api: AsyncClient, session: AsyncSession
) -> None:
    followers = Followers()
    first = tab(api, followers)
    await first.stream.__anext__()
    # Once the watch delivers a message, it will deliver the whole answer.
    await store(session, "1")
    await first.until("message", seq=1)
    sent = await session.send("go", options=ENDLESS)
    await first.until("delta", turn=sent.turn_id)
    text = ""
    for _ in range(3):
        late = tab(api, followers, after=2)
        so_far = (await late.until("answer", turn=sent.turn_id))["answer"]
        more = (await late.until("delta", turn=sent.turn_id))["text"]
        await late.stream.aclose()
        text = so_far + more
        assert WORDS.startswith(text)
    await session.abort()
    await first.until("message", turn=sent.turn_id)
    whole = "".join(data["text"] for name, data in first.events if name == "delta")
    assert WORDS.startswith(whole)
    assert whole.startswith(text)
    # The stored message has replaced the text so far.
    after = tab(api, followers)
    await after.until("message", turn=sent.turn_id)
    assert "answer" not in [name for name, _ in after.events]
    followers.close()


async def test_the_text_of_a_turn_that_ended_unnoticed_is_taken_away(
    api: AsyncClient, session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "CHECK_S", 0.01)
    followers = Followers()
    with pytest.raises(TurnFailed) as failed:
        await session.send_and_wait("go", options={"echo_fault": "MODEL_UNAVAILABLE"})
    turn_id = failed.value.metadata["turn_id"]
    reader = tab(api, followers, after=1)
    await reader.stream.__anext__()
    follower = followers.of(api, session.session_id)
    # The follower holds a part of an answer, as if it had missed the end of the turn.
    follower._answers[turn_id] = following._Answer("half an answer")
    ends = [
        (await reader.until("turn", turn=turn_id))["type"],
        (await reader.until("turn", turn=turn_id))["type"],
    ]
    assert ends == ["assistant.turn_end", "session.error"]
    assert not follower._answers
    followers.close()


async def test_a_tab_that_is_too_slow_is_cut_off(
    api: AsyncClient, session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "MAX_BEHIND", 3)
    followers = Followers()
    slow, quick = tab(api, followers), tab(api, followers)
    for reader in (slow, quick):
        await reader.stream.__anext__()
        await store(session, "x")
        await reader.until("message")
    for i in range(20):
        await store(session, str(i))
        await quick.until("message", seq=i + 3)
    with pytest.raises(AssertionError, match="the stream ended"):
        await slow.until("message", seq=22)
    again = tab(api, followers, after=slow.seqs[-1])
    await again.until("message", seq=22)
    assert [*slow.seqs, *again.seqs] == list(range(1, 23))
    followers.close()


async def test_a_deleted_session_ends_the_tail(api: AsyncClient, session: AsyncSession) -> None:
    followers = Followers()
    reader = tab(api, followers)
    await store(session, "1")
    await reader.until("message", seq=1)
    await session.delete()
    await reader.until("gone")


async def test_a_session_that_is_missing_cannot_be_followed(api: AsyncClient) -> None:
    followers = Followers()
    for _ in range(2):
        with pytest.raises(SessionNotFound):
            await tab(api, followers).until("message")
    assert not followers._followers


async def test_the_stream_of_a_missing_session_is_not_found(browser: Browser) -> None:
    response = await browser.get("/sessions/none/live?after=0")
    assert response.status_code == 404
    assert (await browser.get("/sessions/none/live?after=x")).status_code == 400


def test_events_have_no_line_breaks_in_their_data() -> None:
    piece = event_bytes("message", {"html": "a\nb\r\n\u2028event: evil\n\n", "x": "\ud83d"}, 7)
    assert piece.count(b"\n") == 4
    assert piece.startswith(b"id: 7\nevent: message\ndata: {")


async def test_a_tab_of_another_epoch_is_loaded_again(
    api: AsyncClient, session: AsyncSession
) -> None:
    followers = Followers()
    await store(session, "1")
    same = Reader(tail(followers, api, "s", 0, html, epoch=0))
    await same.until("message", seq=1)
    other = Reader(tail(followers, api, "s", 0, html, epoch=7))
    await other.until("reload")
    assert not other.seqs
    followers.close()


async def test_a_watch_survives_its_last_tab_for_a_while_only(
    api: AsyncClient, session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    followers = Followers()
    reader = tab(api, followers)
    await reader.stream.__anext__()
    follower = followers.of(api, "s")
    await reader.stream.aclose()
    first = follower._lingering
    again = tab(api, followers)
    await again.stream.__anext__()
    # The second tab has cancelled the timer that the end of the first tab started.
    assert first
    assert first.cancelled()
    monkeypatch.setattr(following, "LINGER_S", 0.01)
    await again.stream.aclose()
    async with asyncio.timeout(TIMEOUT_S):
        await asyncio.wait([follower._task])
    assert not followers._followers


async def test_a_rewind_while_the_watch_begins_reaches_the_tab(
    api: AsyncClient, session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store(session, "1", "2", "3")
    get = api.sessions.get

    async def then_rewound(session_id: str) -> SessionInfo:
        info = await get(session_id)
        await session.rewind(to_seq=1)
        return info

    monkeypatch.setattr(api.sessions, "get", then_rewound)
    followers = Followers()
    reader = tab(api, followers)
    assert (await reader.until("rewound"))["last_seq"] == 1
    await reader.stream.aclose()
    followers.close()


async def test_a_rewind_takes_messages_back_in_open_tabs(
    api: AsyncClient, session: AsyncSession
) -> None:
    followers = Followers()
    reader = tab(api, followers)
    await store(session, "1", "2", "3")
    await reader.until("message", seq=3)
    await session.rewind(to_seq=1)
    found = await reader.until("rewound")
    assert found == {"last_seq": 1, "epoch": 1}
    await store(session, "other 2")
    found = await reader.until("message", seq=2)
    assert found["html"] == "<p>other 2</p>"
    followers.close()


async def test_a_watch_that_begins_within_an_answer_has_its_text_so_far(
    api: AsyncClient, session: AsyncSession
) -> None:
    sent = await session.send("go", options=ENDLESS)
    seen = session.events(types=["assistant.message_delta"])
    async with asyncio.timeout(TIMEOUT_S):
        async for _ in seen:
            break
    followers = Followers()
    late = tab(api, followers, after=1)
    text = str((await late.until("answer", turn=sent.turn_id))["answer"])
    text += str((await late.until("delta", turn=sent.turn_id))["text"])
    assert WORDS.startswith(text)
    assert text.startswith("word0 ")
    await session.abort()
    followers.close()


async def test_a_list_that_is_left_leaves_no_task(api: AsyncClient) -> None:
    before = asyncio.all_tasks()
    changes = live._changes(api)
    await anext(changes)
    reading = asyncio.ensure_future(anext(changes))
    async with asyncio.timeout(TIMEOUT_S):
        while not any("Event.wait" in repr(task) for task in asyncio.all_tasks() - before):
            await asyncio.sleep(0)
    reading.cancel()
    with suppress(asyncio.CancelledError):
        await reading
    await changes.aclose()
    await asyncio.sleep(0)
    assert not [task for task in asyncio.all_tasks() - before if "Event.wait" in repr(task)]
