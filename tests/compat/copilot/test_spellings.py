"""`sessiond.compat.copilot`: all spellings, with the async, the sync and the deciding client."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from sessiond import AsyncClient, ClientClosed, Event, SessionDestroyed, SessionNotFound, TurnFailed
from sessiond.compat import copilot
from sessiond.compat.copilot import (
    AsyncCopilotClient,
    MessageOptions,
    SessionConfig,
    SyncCopilotClient,
)

from ...support.waiting import until_async


@pytest.fixture
async def ours(target: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(target) as opened:
        yield opened


class Colour:
    """The async client or the sync client, behind methods that are the same for both.

    The sync client runs in a thread, because the server runs in the test's loop.
    """

    def __init__(self, is_async: bool, target: str) -> None:
        self.is_async = is_async
        self.client: Any = (
            AsyncCopilotClient(target=target) if is_async else SyncCopilotClient(target=target)
        )

    async def call(self, function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        if self.is_async:
            return await function(*args, **keywords)
        return await asyncio.to_thread(function, *args, **keywords)

    async def create(self, *args: Any, **keywords: Any) -> Any:
        return await self.call(self.client.create_session, *args, **keywords)


@pytest.fixture(params=["async", "sync"])
async def colour(request: pytest.FixtureRequest, target: str) -> AsyncIterator[Colour]:
    made = Colour(request.param == "async", target)
    await made.call(made.client.start)
    yield made
    await made.call(made.client.stop)


@dataclass
class OwnConfig:
    """A caller's own config class."""

    session_id: str
    model: str
    tools: list[str] = field(default_factory=list)


async def slow(ours: AsyncClient, session_id: str, delay_ms: float) -> None:
    """Make the session's model answer slowly."""
    await ours.sessions.update(
        session_id, config={"model_options": {"echo_delay_ms": delay_ms, "echo_text": "one two"}}
    )


async def said(ours: AsyncClient, session_id: str) -> list[str]:
    return [message.content async for message in ours.sessions.get_messages(session_id)]


def test_all_is_what_is_there() -> None:
    assert all(hasattr(copilot, name) for name in copilot.__all__)


class TestSpellings:
    @pytest.mark.parametrize(
        ("args", "keywords"),
        [
            (({"session_id": "chat", "model": "m"},), {}),
            ((SessionConfig(session_id="chat", model="m"),), {}),
            ((), {"session_id": "chat", "model": "m"}),
            (({"session_id": "chat"},), {"model": "m"}),
            ((OwnConfig("chat", "m"),), {}),
        ],
    )
    async def test_create(
        self, colour: Colour, ours: AsyncClient, args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> None:
        session = await colour.create(*args, **keywords)
        assert (session.session_id, session.workspace_path) == ("chat", None)
        assert "chat" in repr(session)
        assert (await ours.sessions.get("chat")).model == "m"

    async def test_send(self, colour: Colour, ours: AsyncClient) -> None:
        session = await colour.create()
        prompt = MessageOptions(prompt="c", mode="enqueue", attachments=None)
        for args, keywords in [
            (("a",), {}),
            (({"prompt": "b"},), {}),
            ((prompt,), {}),
            ((), {"prompt": "d"}),
        ]:
            answer = await colour.call(session.send_and_wait, *args, **keywords)
            assert (answer.type, answer.data.content) == ("assistant.message", answer.content)
        sent = await colour.call(
            session.send,
            prompt="e",
            attachments=[{"type": "blob", "data": "aGk=", "mimeType": "text/plain"}],
        )
        await colour.call(session.destroy)
        messages = await ours.sessions.get_messages(session.session_id).to_list()
        assert [message.content for message in messages][::2] == ["a", "b", "c", "d", "e"]
        assert messages[8].id == sent

    async def test_config(self, colour: Colour, ours: AsyncClient) -> None:
        thresholds = {"enabled": True, "background_compaction_threshold": 0.8}
        for given, config, never_expires in [
            ({"infinite_sessions": True}, {}, True),
            ({"infinite_sessions": False}, {}, False),
            ({"infinite_sessions": thresholds}, {"infinite_sessions": thresholds}, False),
            ({"system_message": "Be brief."}, {"system_prompt": "Be brief."}, False),
            (
                {"system_message": {"mode": "replace", "content": "Be."}},
                {"system_prompt": "Be."},
                False,
            ),
            ({"reasoning_effort": "low"}, {"model_options": {"reasoning_effort": "low"}}, False),
            (
                {
                    "streaming": True,
                    "on_permission_request": print,
                    "working_directory": "/",
                    "tools": [],
                    "provider": None,
                },
                {},
                False,
            ),
        ]:
            info = await ours.sessions.get((await colour.create(given)).session_id)
            assert (info.config, info.never_expires) == (config, never_expires), given

    async def test_empty_options_that_are_unknown_are_ignored(self, colour: Colour) -> None:
        session = await colour.create(tools=[], agent_mode="")
        answer = await colour.call(session.send_and_wait, "Hello", agent_mode="", tools=[])
        assert answer.content == "echo of 1 message: Hello"
        rows = await colour.call(colour.client.list_sessions, {"cwd": ""})
        assert [row.session_id for row in rows] == [session.session_id]

    async def test_refused(self, colour: Colour, ours: AsyncClient) -> None:
        for keywords, name in [
            ({"tools": [print]}, "tools"),
            ({"provider": {"type": "openai"}}, "provider"),
            ({"sesion_id": "typing error"}, "sesion_id"),
        ]:
            with pytest.raises(TypeError, match=f"knows no '{name}'"):
                await colour.create(**keywords)
        with pytest.raises(TypeError, match="'model' twice"):
            await colour.create({"model": "a"}, model="b")
        with pytest.raises(TypeError, match="not str"):
            await colour.create("chat")
        with pytest.raises(TypeError, match="infinite_sessions is True"):
            await colour.create(infinite_sessions="yes")
        with pytest.raises(ValueError, match="system_message"):
            await colour.create(system_message={"mode": "customize", "sections": {}})
        assert await ours.list_sessions().to_list() == []
        session = await colour.create()
        with pytest.raises(TypeError, match="needs a prompt"):
            await colour.call(session.send)
        with pytest.raises(TypeError, match="knows no 'agent_mode'"):
            await colour.call(session.send, "Hello", agent_mode="plan")
        with pytest.raises(TypeError, match="'prompt' twice"):
            await colour.call(session.send_and_wait, "Hello", prompt="Hello")
        with pytest.raises(TypeError, match="knows no 'cli_url'"):
            type(colour.client)({"cli_url": "localhost:4321"})
        type(colour.client)({"cli_path": "/bin/copilot"}, log_level="info")


class TestSessions:
    async def test_an_id_that_exists_is_gone_on_with(
        self, colour: Colour, ours: AsyncClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        first = await colour.create({"session_id": "chat", "model": "a"})
        await colour.call(first.send_and_wait, "Hello")
        await colour.call(first.disconnect)
        second = await colour.create({"session_id": "chat", "model": "b"})
        assert "session 'chat' already exists and keeps its model 'a'" in caplog.text
        assert (
            await colour.call(second.send_and_wait, "Hello")
        ).content == "echo of 3 messages: Hello"
        info = await ours.sessions.get("chat")
        assert (info.model, info.never_expires) == ("a", False)
        # A caller who requests infinite sessions must not lose this one by expiry.
        await colour.create({"session_id": "chat", "infinite_sessions": True})
        assert (await ours.sessions.get("chat")).never_expires

    async def test_resume(self, colour: Colour, ours: AsyncClient) -> None:
        session = await colour.create({"session_id": "chat", "system_message": "a"})
        await colour.call(session.destroy)
        with pytest.raises(SessionDestroyed):
            await colour.call(session.send, "Hello")
        await colour.call(colour.client.resume_session, "chat")
        assert (await ours.sessions.get("chat")).status == "active"
        await colour.call(
            colour.client.resume_session,
            "chat",
            {"model": "m", "system_message": "b"},
            infinite_sessions=True,
        )
        info = await ours.sessions.get("chat")
        assert (info.model, info.config, info.never_expires) == ("m", {"system_prompt": "b"}, True)
        with pytest.raises(TypeError, match="two different ids"):
            await colour.call(colour.client.resume_session, "chat", {"session_id": "other"})

    async def test_what_is_not_there(self, colour: Colour) -> None:
        session = await colour.create(session_id="chat")
        await colour.call(colour.client.delete_session, "chat")
        for missing in (
            lambda: colour.call(colour.client.resume_session, "chat"),
            lambda: colour.call(colour.client.delete_session, "chat"),
            lambda: colour.call(session.send, "Hello"),
            lambda: colour.call(session.destroy),
        ):
            with pytest.raises(RuntimeError) as caught:
                await missing()
            assert isinstance(caught.value, SessionNotFound)

    async def test_listing(self, colour: Colour) -> None:
        client = colour.client
        assert await colour.call(client.get_last_session_id) is None
        for session_id in ("a-1", "a-2", "b-1"):
            await colour.create(session_id=session_id)
        rows = await colour.call(client.list_sessions)
        assert isinstance(rows, list)
        assert (
            [row.session_id for row in rows]
            == [row["sessionId"] for row in rows]
            == ["b-1", "a-2", "a-1"]
        )
        assert (rows[0].get("summary", "none"), rows[0]["modifiedTime"]) == (
            "none",
            rows[0].get("modifiedTime", "N/A"),
        )
        assert len(await colour.call(client.list_sessions, session_id_prefix="a-")) == 2
        assert len(await colour.call(client.list_sessions, {"session_id_prefix": "b-"})) == 1
        with pytest.raises(TypeError, match="repository"):
            await colour.call(client.list_sessions, {"repository": "x"})
        assert (await colour.call(client.get_session_metadata, "a-1")).session_id == "a-1"
        assert await colour.call(client.get_session_metadata, "a-3") is None
        assert await colour.call(client.get_last_session_id) == "b-1"
        assert (await colour.call(client.ping, "you")).message == "pong: you"

    async def test_destroy_waits_for_what_was_sent(self, colour: Colour, ours: AsyncClient) -> None:
        session = await colour.create(session_id="chat")
        await slow(ours, "chat", 300)
        heard: list[str] = []
        session.on("assistant.message", lambda event: heard.append(event.data.content))
        for i in range(3):
            await colour.call(session.send, f"question {i}")
        # The timeout is long enough for the server to accept this turn, but too short for the
        # earlier turns to end.
        with pytest.raises(TimeoutError):
            await colour.call(session.send_and_wait, "question 3", timeout=1)
        await colour.call(session.destroy)
        assert len(heard) == 4
        assert [text for text in await said(ours, "chat") if "question" not in text] == [
            "one two"
        ] * 4
        assert (await ours.sessions.get("chat")).status == "destroyed"
        # A second call does nothing, even after another client has resumed the session.
        await ours.resume_session("chat")
        await colour.call(session.destroy)
        assert (await ours.sessions.get("chat")).status == "active"

    async def test_destroy_waits_no_longer_than_it_may(
        self, colour: Colour, ours: AsyncClient
    ) -> None:
        session = await colour.create(session_id="chat")
        await slow(ours, "chat", 30_000)
        await colour.call(session.send, "Hello")
        await colour.call(session.destroy, timeout=0.1)
        assert (await ours.sessions.get("chat")).status == "destroyed"
        assert [turn.state async for turn in ours.sessions.list_turns("chat")] == ["aborted"]

    async def test_destroy_does_not_wait_for_others(
        self, colour: Colour, ours: AsyncClient
    ) -> None:
        session = await colour.create(session_id="chat")
        await slow(ours, "chat", 30_000)
        await ours.sessions.send("chat", "somebody else's")
        await colour.call(session.destroy)
        assert [turn.state async for turn in ours.sessions.list_turns("chat")] == ["aborted"]

    async def test_turns_that_fail(self, colour: Colour, ours: AsyncClient) -> None:
        session = await colour.create(session_id="chat")
        await ours.sessions.update(
            "chat", config={"model_options": {"echo_fault": "MODEL_UNAVAILABLE"}}
        )
        with pytest.raises(RuntimeError) as caught:
            await colour.call(session.send_and_wait, "Hello")
        assert isinstance(caught.value, TurnFailed)
        await colour.call(session.send, "Hello")
        await colour.call(session.destroy)

    async def test_time_is_over(self, colour: Colour, ours: AsyncClient) -> None:
        session = await colour.create(session_id="chat")
        await slow(ours, "chat", 30_000)
        with pytest.raises(TimeoutError):
            await colour.call(session.send_and_wait, {"prompt": "Hello"}, 1)
        [turn] = await ours.sessions.list_turns("chat").to_list()
        assert turn.state == "running"
        await colour.call(session.abort)
        [turn] = await ours.sessions.list_turns("chat").to_list()
        assert turn.state == "aborted"
        await colour.call(session.set_model, "other")
        assert (await ours.sessions.get("chat")).model == "other"


class TestHandlers:
    async def test_on(self, colour: Colour) -> None:
        events: list[Event] = []
        answers: list[str] = []
        early: list[str] = []
        session = await colour.create(on_event=events.append)
        unsubscribe = session.on(
            "assistant.message", lambda event: answers.append(event.data.content)
        )
        session.on(lambda event: early.append(event.type))
        await colour.call(session.send_and_wait, "Hello")
        assert answers == ["echo of 1 message: Hello"]
        assert [event.type for event in events if event.seq] == [
            "user.message",
            "assistant.message",
        ]
        assert "assistant.message_delta" in early
        unsubscribe()
        await colour.call(session.send_and_wait, "Hello")
        assert len(answers) == 1
        assert len([event for event in events if event.seq]) == 4
        with pytest.raises(TypeError, match="needs a handler"):
            session.on("assistant.message")

    async def test_on_lifecycle(self, colour: Colour) -> None:
        everything: list[tuple[str, str]] = []
        deleted: list[str] = []

        def failing(event: Event) -> None:
            raise ValueError(event.type)

        # Register the handlers in the loop, because the async client runs them there.
        colour.client.on_lifecycle(lambda event: everything.append((event.type, event.session_id)))
        unsubscribe = colour.client.on_lifecycle(
            "session.deleted", lambda event: deleted.append(event.session_id)
        )
        colour.client.on_lifecycle(failing)
        await colour.create(session_id="chat")
        await colour.call(colour.client.delete_session, "chat")
        await until_async(
            lambda: deleted == ["chat"] and len(everything) == 2, "the handlers were called"
        )
        assert everything == [("session.created", "chat"), ("session.deleted", "chat")]
        unsubscribe()
        await colour.create(session_id="chat")
        await colour.call(colour.client.delete_session, "chat")
        await until_async(lambda: len(everything) == 4, "the other handler was called")
        assert deleted == ["chat"]


class TestHistory:
    async def test_awaited_and_plain(self, target: str, ours: AsyncClient) -> None:
        async with AsyncCopilotClient(target=target) as client:
            session = await client.create_session(session_id="chat")
            assert await session.get_messages() == []
            await session.send_and_wait("Hello")
            await session.send_and_wait("Again")
            awaited = await session.get_messages()
            assert [(m.role, m["type"], m.data.content) for m in awaited[:1]] == [
                ("user", "user.message", "Hello")
            ]

            # Read in another thread: the server runs in this thread's loop, which a blocking read
            # would stop.
            history = session.get_messages()
            assert repr(history) == "AsyncHistory(not fetched yet)"
            plain = await asyncio.to_thread(list, history)
            assert plain == awaited == list(history)
            assert (len(history), history[-1].id, history[2:], bool(history)) == (
                4,
                awaited[-1].id,
                awaited[2:],
                True,
            )
            assert await history == plain
            assert repr(history) == repr(plain)
            events = await session.get_events()
            assert events == awaited
            unread = session.get_messages()
        with pytest.raises(ClientClosed):
            len(unread)

    async def test_sync(self, target: str) -> None:
        def use() -> list[Any]:
            with SyncCopilotClient(target=target) as client:
                session = client.create_session()
                session.send_and_wait("Hello")
                return session.get_messages()

        assert [message.content for message in await asyncio.to_thread(use)] == [
            "Hello",
            "echo of 1 message: Hello",
        ]
