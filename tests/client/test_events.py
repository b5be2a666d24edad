"""Events: live, resumed after a broken stream, and passed to handlers in the background."""

import asyncio
import logging
from typing import Any

import grpc
import pytest

from sessiond import errors
from sessiond._requests import watch as watch_requests
from sessiond.v1 import event_pb2, message_pb2, session_pb2
from sessiond.v1.conversation_service_pb2 import WatchResponse

from ..support.waiting import PATIENCE_S, until_async

GONE = (grpc.StatusCode.NOT_FOUND, "there is no session 's'")


def message(seq: int, role: str = "user") -> event_pb2.Event:
    text = f'{{"role":"{role}","content":"m{seq}"}}'
    number = message_pb2.Role.Value(f"ROLE_{role.upper()}")
    stored = message_pb2.Message(seq=seq, role=number, json=text, format=message_pb2.FORMAT_OPENAI)
    stored.create_time.seconds = 1_700_000_000 + seq
    return event_pb2.Event(
        type=f"{role}.message", seq=seq, session_id="s", time=stored.create_time, message=stored
    )


def lifecycle_event(what: str, **data: Any) -> event_pb2.Event:
    event = event_pb2.Event(type=f"session.{what}", session_id="s")
    event.time.seconds = 1_700_000_000
    if data:
        event.data.update(data)
    return event


def response(*events: event_pb2.Event) -> WatchResponse:
    return WatchResponse(events=events)


async def silence(request: Any, context: Any) -> None:
    """A step of a stream that never ends."""
    await asyncio.Event().wait()


def session_gone(server: Any) -> Any:
    return server.abort(*GONE, reason="SESSION_NOT_FOUND", metadata={"session_id": "s"})


def draining(server: Any) -> Any:
    return server.abort(
        grpc.StatusCode.UNAVAILABLE, "bye", reason="SERVER_DRAINING", retry_after_s=0.001
    )


async def take(colour: Any, lazy: Any, count: int) -> list[Any]:
    """Take the first items of a lazy list."""
    if colour.is_async:
        items = []
        async for item in lazy:
            items.append(item)
            if len(items) == count:
                break
        return items
    return await asyncio.to_thread(
        lambda: [item for _, item in zip(range(count), lazy, strict=False)]
    )


async def until_error(colour: Any, lazy: Any) -> tuple[list[Any], errors.SessiondError]:
    """Take all items until an error ends the list; return both."""
    items: list[Any] = []

    def collect() -> None:
        for item in lazy:
            items.append(item)

    async def collect_async() -> None:
        async for item in lazy:
            items.append(item)

    with pytest.raises(errors.SessiondError) as caught:
        await (collect_async() if colour.is_async else asyncio.to_thread(collect))
    return items, caught.value


@pytest.fixture
async def session(colour, server, client) -> Any:
    server.on("GetSession", session_pb2.Session(session_id="s", last_seq=7))
    return await colour.call(client.get_session, "s")


async def test_events_are_read_like_dicts(colour, server, client) -> None:
    server.on(
        "Watch", [response(message(1, "assistant"), lifecycle_event("updated", title="t")), silence]
    )
    stored, updated = await take(colour, client.sessions.events("s", 0), 2)
    assert (stored.type, stored.seq, stored.session_id) == ("assistant.message", 1, "s")
    assert stored.message.content == stored.data.content == stored["data"]["content"] == "m1"
    assert stored.time == stored.message.created_at
    assert (updated["type"], updated["seq"], updated.message, updated.data) == (
        "session.updated",
        None,
        None,
        {"title": "t"},
    )
    assert updated.to_dict() == {
        "type": "session.updated",
        "seq": None,
        "epoch": 0,
        "session_id": "s",
        "time": "2023-11-14T22:13:20Z",
        "message": None,
        "data": {"title": "t"},
    }
    assert stored.to_dict()["message"]["content"] == "m1"
    assert stored == stored
    assert len({stored, updated}) == 2


async def test_a_broken_stream_goes_on_from_the_last_seq(colour, server, client, impatient) -> None:
    too_slow = server.abort(
        grpc.StatusCode.UNAVAILABLE, "slow", reason="WATCHER_TOO_SLOW", retry_after_s=0.001
    )
    server.on(
        "Watch",
        [
            response(),
            response(message(1), message(2), lifecycle_event("updated")),
            draining(server),
        ],
        [response(message(3)), too_slow],
        [response(), server.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")],
        [response(message(4))],  # ends without an error, which a real server never does
        [response(message(5)), session_gone(server)],
    )
    events, error = await until_error(colour, client.sessions.events("s", 0))
    assert [event.seq for event in events] == [1, 2, None, 3, 4, 5]
    assert isinstance(error, errors.SessionNotFound)
    assert [request.after_seq for request in server.of("Watch")] == [0, 2, 3, 3, 4]


async def test_a_function_learns_when_the_connection_is_lost_and_back(
    colour, server, client, impatient
) -> None:
    server.on(
        "Watch",
        [response(), response(message(1)), draining(server)],
        [draining(server)],
        [response(message(2)), response(), session_gone(server)],
    )
    told: list[bool] = []
    events, _ = await until_error(colour, client.sessions.events("s", 0, on_connection=told.append))
    assert [event.seq for event in events] == [1, 2]
    # A second response changes nothing about the connection, nor does a second failed attempt.
    assert told == [True, False, True, False]
    with pytest.raises(errors.InvalidField, match="on_connection"):
        client.sessions.events("s", on_connection=True)


async def test_without_after_seq_a_watch_begins_at_the_last_seq(
    colour, server, session, impatient
) -> None:
    server.on("Watch", [response(), draining(server)], [response(message(8)), silence])
    assert [event.seq for event in await take(colour, session.events(), 1)] == [8]
    # The stream broke before the first message, so the client repeated the same after_seq.
    assert [request.after_seq for request in server.of("Watch")] == [7, 7]


async def test_types_are_picked(colour, server, client) -> None:
    server.on(
        "Watch",
        [
            response(message(1), message(2, "assistant"), lifecycle_event("updated")),
            response(message(3, "tool")),
            session_gone(server),
        ],
    )
    events, _ = await until_error(
        colour, client.sessions.events("s", 0, types=["assistant.message", "tool.message"])
    )
    assert [event.seq for event in events] == [2, 3]
    with pytest.raises(errors.InvalidField):
        client.sessions.events("s", types="assistant.message")


async def test_a_project_is_watched_without_a_seq(colour, server, client, impatient) -> None:
    server.on(
        "Watch",
        [response(lifecycle_event("created")), draining(server)],
        [response(lifecycle_event("deleted")), silence],
    )
    assert [event.type for event in await take(colour, client.events(), 2)] == [
        "session.created",
        "session.deleted",
    ]
    for request in server.of("Watch"):
        assert (request.session_id, request.HasField("after_seq")) == ("", False)


async def test_a_silent_stream_is_opened_again(
    colour, server, client, impatient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(request: Any, context: Any) -> list[Any]:
        # Choose by after_seq, not by the number of the call: on a slow machine, more than one
        # connection may be silent.
        if request.after_seq < 1:
            return [response(message(1)), silence]
        return [response(message(2)), session_gone(server)]

    monkeypatch.setattr(watch_requests, "HEARTBEAT_S", 1.0)
    monkeypatch.setattr(watch_requests, "MAX_SILENCE_S", 0.2)
    server.on("Watch", script)
    events, _ = await until_error(colour, client.sessions.events("s", 0))
    assert [event.seq for event in events] == [1, 2]
    assert {request.heartbeat_interval.seconds for request in server.of("Watch")} == {1}


async def test_leaving_the_loop_ends_the_call(colour, server, client) -> None:
    server.on("Watch", [response(message(1)), silence])
    await take(colour, client.sessions.events("s", 0), 1)
    async with asyncio.timeout(PATIENCE_S):
        await server.cancelled.wait()


async def test_a_stopped_client_ends_the_stream(colour, server, client) -> None:
    server.on("Watch", [response(message(1)), silence])
    reading = asyncio.ensure_future(until_error(colour, client.sessions.events("s", 0)))
    await until_async(lambda: bool(server.of("Watch")), "the stream began")
    await colour.call(client.stop)
    _, error = await reading
    assert isinstance(error, errors.ClientClosed)


async def test_a_timeout_ends_the_stream(colour, server, client) -> None:
    server.on("Watch", [silence])
    _, error = await until_error(colour, client.sessions.events("s", 0, timeout=0.2))
    assert isinstance(error, errors.DeadlineExceeded)


class TestHandlers:
    async def test_they_are_called_in_order(
        self, colour, server, session, caplog: pytest.LogCaptureFixture
    ) -> None:
        begin = asyncio.Event()

        async def begun(request: Any, context: Any) -> None:
            await begin.wait()

        server.on(
            "Watch",
            [
                begun,
                response(message(8), message(9, "assistant"), lifecycle_event("updated")),
                silence,
            ],
        )
        calls: list[tuple[str, str]] = []

        def broken(event: Any) -> None:
            calls.append(("broken", event.type))
            raise ZeroDivisionError

        removals = [
            session.on(broken),
            session.on(lambda event: calls.append(("all", event.type))),
            session.on("assistant.message", lambda event: calls.append(("one", event.type))),
        ]
        with caplog.at_level(logging.ERROR, "sessiond"):
            begin.set()
            await until_async(lambda: len(calls) == 7, "all were called")
        assert calls == [
            ("broken", "user.message"),
            ("all", "user.message"),
            ("broken", "assistant.message"),
            ("all", "assistant.message"),
            ("one", "assistant.message"),
            ("broken", "session.updated"),
            ("all", "session.updated"),
        ]
        assert caplog.text.count("a handler failed") == 3
        assert len(server.of("Watch")) == 1
        for remove in removals:
            assert not server.cancelled.is_set()
            remove()
            remove()
        async with asyncio.timeout(PATIENCE_S):
            await server.cancelled.wait()

    async def test_the_next_one_watches_anew(self, server, session) -> None:
        server.on("Watch", [response(message(8)), silence])
        seen: list[int] = []
        for count in (1, 2):
            remove = session.on(lambda event: seen.append(event.seq))
            await until_async(lambda count=count: len(seen) == count, "it was called")
            remove()
        assert seen == [8, 8]

    async def test_coroutine_functions_are_awaited(self, colour, server, session) -> None:
        if not colour.is_async:
            pytest.skip("of the async client")
        server.on("Watch", [response(message(8), message(9)), silence])
        seen: list[int] = []

        async def handler(event: Any) -> None:
            await asyncio.sleep(0)
            seen.append(event.seq)

        session.on(handler)
        await until_async(lambda: seen == [8, 9], "it was called")

    async def test_a_server_that_is_away_is_waited_for(
        self, server, session, impatient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in ("_async", "_sync"):
            monkeypatch.setattr(f"sessiond.{module}._handlers.MAX_STREAM_DELAY_S", 0.001)
        away = server.abort(grpc.StatusCode.UNAVAILABLE, "away")
        server.on(
            "Watch", [response(message(8)), away], *[away] * 20, [response(message(9)), silence]
        )
        seen: list[int] = []
        session.on(lambda event: seen.append(event.seq))
        await until_async(lambda: seen == [8, 9], "both came")
        assert [request.after_seq for request in server.of("Watch")] == [7] + [8] * 21

    async def test_the_end_of_the_session_ends_it(
        self, server, session, caplog: pytest.LogCaptureFixture
    ) -> None:
        server.on("Watch", [response(lifecycle_event("deleted")), session_gone(server)])
        seen: list[str] = []
        with caplog.at_level(logging.INFO, "sessiond"):
            session.on(lambda event: seen.append(event.type))
            await until_async(lambda: "is gone" in caplog.text, "the end is logged")
        assert seen == ["session.deleted"]

    async def test_a_stopped_client_ends_it(self, colour, server, client, session) -> None:
        server.on("Watch", [response(message(8)), silence])
        seen: list[int] = []
        session.on(lambda event: seen.append(event.seq))
        await until_async(lambda: seen == [8], "it was called")
        await colour.call(client.stop)
        await until_async(lambda: session._handlers._watch is None, "it ended")

    async def test_a_type_needs_a_handler(self, session) -> None:
        with pytest.raises(errors.InvalidField, match="handler must be a function"):
            session.on("assistant.message")
