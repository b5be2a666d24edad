"""The handlers of a session's events, during Send calls to the session."""

import asyncio
import logging
from typing import Any

import pytest

from sessiond.v1.conversation_service_pb2 import WatchResponse

from ..support.waiting import until_async
from .turn_responses import accepted, answered, broken, message_event, silence, turn_event


class TestHandlers:
    @pytest.fixture(autouse=True)
    def patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make the timeouts long, so that a test that depends on a timeout hangs."""
        self.patch = monkeypatch
        self.set_patience(200.0)

    def set_patience(self, seconds: float) -> None:
        for module in ("_async", "_sync"):
            for name in ("READY_TIMEOUT_S", "DELIVERED_TIMEOUT_S"):
                self.patch.setattr(f"sessiond.{module}._handlers.{name}", seconds)

    @pytest.mark.parametrize("how", ["send", "send_and_wait", "stream"])
    async def test_the_watch_is_open_before_a_send(self, colour, server, session, how: str) -> None:
        go = asyncio.Event()

        async def late(request: Any, context: Any) -> None:
            await go.wait()

        server.on(
            "Watch",
            [
                late,
                WatchResponse(),
                WatchResponse(events=[message_event(8, "user"), message_event(9)]),
                silence,
            ],
        )
        server.on("Send", answered())
        session.on(lambda event: None)
        if how == "stream":
            sending = asyncio.ensure_future(colour.collect(session.stream("x")))
        else:
            sending = asyncio.ensure_future(colour.call(getattr(session, how), "x"))
        await until_async(lambda: bool(server.of("Watch")), "it is watched")
        done, _ = await asyncio.wait({sending}, timeout=0.3)
        assert not done
        assert server.of("Send") == []
        go.set()
        await sending

    async def test_handlers_have_seen_the_answer_when_it_is_returned(
        self, colour, server, session
    ) -> None:
        go, seen = asyncio.Event(), []

        async def late(request: Any, context: Any) -> None:
            await go.wait()

        async def over(request: Any, context: Any) -> None:
            # The response to Send is complete, so let the watchers receive their events.
            go.set()

        delta = turn_event("assistant.message_delta", delta_content="a")
        server.on(
            "Watch",
            [
                WatchResponse(),
                late,
                WatchResponse(events=[message_event(8, "user"), delta]),
                WatchResponse(events=[message_event(9)]),
                silence,
            ],
        )
        server.on("Send", [*answered(), over])
        session.on(lambda event: seen.append(event.type))
        await colour.call(session.send_and_wait, "x")
        assert seen == ["user.message", "assistant.message_delta", "assistant.message"]

    async def test_without_handlers_nothing_is_watched(self, colour, server, session) -> None:
        server.on("Send", answered())
        await colour.call(session.send_and_wait, "x")
        assert server.of("Watch") == []

    async def test_they_may_send_themselves(self, colour, server, session) -> None:
        server.on(
            "Watch",
            [
                WatchResponse(),
                WatchResponse(events=[message_event(8, "user"), message_event(9)]),
                silence,
            ],
        )
        server.on("Send", answered())
        answers: list[int] = []

        if colour.is_async:

            async def again(event: Any) -> None:
                answers.append((await session.send_and_wait("again")).seq)
        else:

            def again(event: Any) -> None:
                answers.append(session.send_and_wait("again").seq)

        session.on("user.message", again)
        await colour.call(session.send_and_wait, "x")
        assert answers == [9]

    async def test_a_watch_that_does_not_begin_is_not_waited_for_for_ever(
        self, colour, server, session, caplog
    ) -> None:
        self.set_patience(0.05)
        server.on("Watch", [silence])
        server.on("Send", answered())
        session.on(lambda event: None)
        with caplog.at_level(logging.WARNING, "sessiond"):
            assert (await colour.call(session.send_and_wait, "x")).seq == 9
        assert "may miss events" in caplog.text
        assert "have not been called with message 9" in caplog.text

    async def test_a_broken_watch_is_waited_for_again(
        self, colour, server, session, impatient
    ) -> None:
        go = asyncio.Event()

        async def late(request: Any, context: Any) -> None:
            await go.wait()

        server.on("Watch", [WatchResponse(), broken(server)], [late, WatchResponse(), silence])
        server.on("Send", [accepted()])
        session.on(lambda event: None)
        await until_async(lambda: len(server.of("Watch")) == 2, "it is watched again")
        sending = asyncio.ensure_future(colour.call(session.send, "x"))
        done, _ = await asyncio.wait({sending}, timeout=0.3)
        assert not done
        go.set()
        await sending

    async def test_those_that_are_taken_away_are_not_waited_for(
        self, colour, server, session
    ) -> None:
        server.on("Watch", [silence])
        server.on("Send", [accepted()])
        remove = session.on(lambda event: None)
        await until_async(lambda: bool(server.of("Watch")), "it is watched")
        sending = asyncio.ensure_future(colour.call(session.send, "x"))
        done, _ = await asyncio.wait({sending}, timeout=0.3)
        assert not done
        remove()
        await sending
