"""The answer and the events of a turn, over broken connections."""

import asyncio
from typing import Any

import grpc
import pytest

from sessiond import errors
from sessiond._requests import watch as watch_requests
from sessiond.v1 import turn_pb2
from sessiond.v1.conversation_service_pb2 import AbortResponse, SendResponse

from ..support.waiting import PATIENCE_S, until_async
from .turn_responses import (
    FAILED,
    UNAVAILABLE,
    accepted,
    answered,
    broken,
    completed,
    events,
    message_event,
    silence,
    stored,
    turn,
    turn_event,
)

TURN_FAILURES = {
    "MODEL_ACCESS_DENIED": (grpc.StatusCode.FAILED_PRECONDITION, errors.ModelAccessDenied),
    "MODEL_RATE_LIMITED": (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.ModelRateLimited),
    "MODEL_REQUEST_REJECTED": (grpc.StatusCode.FAILED_PRECONDITION, errors.ModelRequestRejected),
    "MODEL_UNAVAILABLE": (grpc.StatusCode.ABORTED, errors.ModelUnavailable),
    "MODEL_TIMED_OUT": (grpc.StatusCode.ABORTED, errors.ModelTimedOut),
    "MODEL_ANSWER_INVALID": (grpc.StatusCode.ABORTED, errors.ModelAnswerInvalid),
    "CONTEXT_TOO_LARGE": (grpc.StatusCode.FAILED_PRECONDITION, errors.ContextTooLarge),
    "TURN_TIMED_OUT": (grpc.StatusCode.ABORTED, errors.TurnTimedOut),
    "TURN_ABORTED": (grpc.StatusCode.ABORTED, errors.TurnAborted),
    "TURN_LOST": (grpc.StatusCode.ABORTED, errors.TurnLost),
    "OF_A_NEWER_SERVER": (grpc.StatusCode.UNAVAILABLE, errors.TurnFailed),
}


def overdue(server: Any) -> Any:
    """A step that ends a call as its deadline would, but at once."""
    return server.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")


class TestSendAndWait:
    async def test_the_turns_answer(self, colour, server, session) -> None:
        server.on("Send", answered())
        answer = await colour.call(session.send_and_wait, "x")
        assert (answer.seq, answer.content, answer.role, answer.session_id) == (
            9,
            "answer 9",
            "assistant",
            "s",
        )
        assert answer.turn.turn_id == "t1"
        assert server.of("GetMessage") == []
        assert server.received[-1].remaining_s < 61

    async def test_by_id(self, colour, server, client) -> None:
        server.on("Send", answered())
        assert (await colour.call(client.sessions.send_and_wait, "s", "x")).seq == 9

    async def test_never_another_turns_answer(self, colour, server, session) -> None:
        server.on(
            "Send",
            [
                accepted(),
                events(
                    message_event(8, "user"),
                    message_event(9, turn_id="other"),
                    turn_event("assistant.message_delta", delta_content="a"),
                    message_event(10),
                ),
                SendResponse(),
                events(message_event(11, turn_id="other")),
                completed(10),
            ],
        )
        assert (await colour.call(session.send_and_wait, "x")).seq == 10
        assert server.of("GetMessage") == []

    async def test_the_final_one_of_several(self, colour, server, session) -> None:
        server.on(
            "Send",
            [
                accepted(),
                events(
                    message_event(8, "user"),
                    message_event(9),
                    message_event(10, "tool"),
                    message_event(11),
                ),
                completed(11),
            ],
        )
        assert (await colour.call(session.send_and_wait, "x")).seq == 11

    async def test_of_the_turn_that_it_steered(self, colour, server, session) -> None:
        # The steered turn failed first, so the message gets its own turn.
        server.on(
            "Send",
            [
                accepted("t0"),
                events(message_event(9, turn_id="t0")),
                SendResponse(turn=turn(id="t1")),
                *answered(11)[1:],
            ],
        )
        assert (await colour.call(session.send_and_wait, "x", mode="immediate")).seq == 11

    async def test_joins_again_after_a_cut(self, colour, server, session, impatient) -> None:
        too_slow = server.abort(
            UNAVAILABLE,
            "slow",
            reason="WATCHER_TOO_SLOW",
            metadata={"session_id": "s"},
            retry_after_s=0.001,
        )
        draining = server.abort(UNAVAILABLE, "bye", reason="SERVER_DRAINING", retry_after_s=0.001)
        server.on(
            "Send",
            [accepted(), events(message_event(8, "user")), broken(server)],
            # Calls other than a wait for a turn would give up after fewer failures.
            *[broken(server)] * 20,
            [accepted(), draining],
            [accepted(), too_slow],
            [
                accepted(),
                broken(server, grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2"),
            ],
            [accepted()],  # the stream ends, although the turn has not ended
            [accepted(), events(message_event(9)), completed(9)],
        )
        assert (await colour.call(session.send_and_wait, "x")).seq == 9
        requests = server.of("Send")
        assert len(requests) == 26
        assert len({request.request_id for request in requests}) == 1
        assert [request.after_seq for request in requests] == [0] + [8] * 25
        assert {request.prompt for request in requests} == {"x"}

    async def test_an_answer_that_was_missed_is_fetched(
        self, colour, server, session, impatient
    ) -> None:
        server.on(
            "Send",
            [accepted(), events(message_event(8, "user"), message_event(9)), broken(server)],
            [completed(11)],
        )
        server.on("GetMessage", stored(11))
        assert (await colour.call(session.send_and_wait, "x")).content == "answer 11"
        assert [request.seq for request in server.of("GetMessage")] == [11]

    async def test_a_silent_stream_is_opened_again(
        self, colour, server, session, impatient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watch_requests, "MAX_SILENCE_S", 0.2)
        server.on("Send", [accepted(), silence], answered())
        assert (await colour.call(session.send_and_wait, "x")).seq == 9
        # On a slow machine, more than one connection may be silent.
        assert len(server.of("Send")) >= 2

    @pytest.mark.parametrize("reason", TURN_FAILURES)
    async def test_a_failed_turn_raises(
        self, colour, server, session, impatient, reason: str
    ) -> None:
        code, cls = TURN_FAILURES[reason]
        metadata = {"session_id": "s", "turn_id": "t1"}
        failure = server.abort(
            code, "what happened", reason=reason, metadata=metadata, retry_after_s=0.001
        )
        server.on("Send", [accepted(), events(message_event(8, "user")), failure])
        with pytest.raises(errors.TurnFailed, match="what happened") as caught:
            await colour.call(session.send_and_wait, "x")
        assert (type(caught.value), caught.value.turn_id, caught.value.code) == (cls, "t1", code)
        # The call is not retried, because the response would be the same.
        assert len(server.of("Send")) == 1

    async def test_a_failure_without_a_status_is_that_of_the_turn(
        self, colour, server, session
    ) -> None:
        failed = turn(FAILED)
        failed.error.CopyFrom(
            turn_pb2.TurnError(
                reason="MODEL_TIMED_OUT", message="silent", metadata={"timeout_s": "5"}
            )
        )
        server.on("Send", [accepted(), SendResponse(turn=failed)])
        with pytest.raises(errors.ModelTimedOut) as caught:
            await colour.call(session.send_and_wait, "x")
        assert caught.value.metadata == {"timeout_s": "5", "session_id": "s", "turn_id": "t1"}

    async def test_the_time_is_over_and_the_turn_goes_on(self, colour, server, session) -> None:
        server.on("Send", [accepted(), overdue(server)])
        with pytest.raises(TimeoutError, match="t1") as caught:
            await colour.call(session.send_and_wait, "x")
        assert isinstance(caught.value, errors.DeadlineExceeded)
        assert caught.value.metadata["turn_id"] == "t1"
        assert not server.of("Send")[0].abort_on_disconnect
        assert server.of("Abort") == []

    async def test_the_time_is_over_and_the_turn_is_aborted(self, colour, server, session) -> None:
        server.on("Send", [accepted(), overdue(server)])
        server.on("Abort", AbortResponse(turns=[turn(turn_pb2.TURN_STATE_ABORTED)]))
        with pytest.raises(errors.DeadlineExceeded):
            await colour.call(session.send_and_wait, "x", on_timeout="abort")
        assert server.of("Send")[0].abort_on_disconnect
        assert [(request.session_id, request.turn_id) for request in server.of("Abort")] == [
            ("s", "t1")
        ]

    async def test_the_timeout_is_the_deadline_of_the_call(self, colour, server, session) -> None:
        server.on("Send", [accepted(), silence])
        with pytest.raises(errors.DeadlineExceeded):
            await colour.call(session.send_and_wait, "x", timeout=0.3)

    async def test_an_abort_that_fails_hides_nothing(self, colour, server, session) -> None:
        server.on("Send", [accepted(), overdue(server)])
        with pytest.raises(errors.DeadlineExceeded):
            await colour.call(session.send_and_wait, "x", on_timeout="abort")
        assert len(server.of("Abort")) == 1

    async def test_the_time_is_over_while_the_server_is_away(
        self, colour, server, session, impatient
    ) -> None:
        server.on("Send", [accepted(), broken(server)], broken(server))
        with pytest.raises(errors.DeadlineExceeded) as caught:
            await colour.call(session.send_and_wait, "x", timeout=2)
        assert caught.value.metadata["turn_id"] == "t1"

    async def test_a_cancelled_wait_leaves_the_stream(self, server, colour, session) -> None:
        if not colour.is_async:
            pytest.skip("threads are not cancelled")
        server.on("Send", [accepted(), silence])
        waiting = asyncio.ensure_future(session.send_and_wait("x", on_timeout="abort"))
        await until_async(lambda: bool(server.of("Send")), "it was sent")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        # The server then sees the disconnect that abort_on_disconnect is about.
        assert server.of("Send")[0].abort_on_disconnect
        async with asyncio.timeout(PATIENCE_S):
            await server.cancelled.wait()

    async def test_a_closed_client_says_so(self, colour, server, client, session) -> None:
        server.on("Send", [accepted(), silence])
        waiting = asyncio.ensure_future(colour.call(session.send_and_wait, "x"))
        await until_async(lambda: bool(server.of("Send")), "it was sent")
        await colour.call(client.stop)
        with pytest.raises(errors.ClientClosed):
            await waiting


class TestStream:
    async def test_the_events_of_the_turn(self, colour, server, session, impatient) -> None:
        delta = [
            turn_event("assistant.message_delta", delta_content=text, n=i)
            for i, text in enumerate("ab")
        ]
        server.on(
            "Send",
            [
                accepted(),
                events(
                    message_event(8, "user", message_id="m1"),
                    turn_event("assistant.turn_start", model="m"),
                ),
                events(*delta),
                broken(server),
            ],
            [
                accepted(),
                SendResponse(),
                events(message_event(9), turn_event("assistant.turn_end", state="completed")),
                completed(9),
            ],
        )
        stream = session.stream("x")
        assert server.of("Send") == []
        happened = await colour.collect(stream)
        assert [event.type for event in happened] == [
            "user.message",
            "assistant.turn_start",
            "assistant.message_delta",
            "assistant.message_delta",
            "assistant.message",
            "assistant.turn_end",
        ]
        first, _, delta_a, delta_b, answer, _ = happened
        assert "".join(event.data.delta_content for event in (delta_a, delta_b)) == "ab"
        assert delta_b.data["n"] == delta_b.data.n == 1
        assert (first.data.turn_id, first.data.message_id, first.message.id) == (
            "t1",
            "s/m1",
            "s/m1",
        )
        assert (answer.data.content, answer.data.message_id) == ("answer 9", "s/9")
        assert {request.request_id for request in server.of("Send")} == {
            server.of("Send")[0].request_id
        }
        assert [request.after_seq for request in server.of("Send")] == [0, 8]

    async def test_iterating_again_joins_the_same_turn(self, colour, server, client) -> None:
        server.on("Send", answered())
        stream = client.sessions.stream("s", "x")
        await colour.collect(stream)
        await colour.collect(stream)
        first, second = server.of("Send")
        assert first == second

    async def test_a_failed_turn_raises_at_the_end(self, colour, server, session) -> None:
        failure = server.abort(
            grpc.StatusCode.ABORTED, "x", reason="TURN_ABORTED", metadata={"turn_id": "t1"}
        )
        server.on(
            "Send",
            [
                accepted(),
                events(
                    message_event(8, "user"), turn_event("session.error", reason="TURN_ABORTED")
                ),
                failure,
            ],
        )
        seen: list[str] = []

        def collect() -> None:
            for event in session.stream("x"):
                seen.append(event.type)

        async def collect_async() -> None:
            async for event in session.stream("x"):
                seen.append(event.type)

        with pytest.raises(errors.TurnAborted):
            await (collect_async() if colour.is_async else asyncio.to_thread(collect))
        assert seen == ["user.message", "session.error"]

    @pytest.mark.parametrize("abort_on_exit", [False, True])
    async def test_leaving_early(self, colour, server, session, abort_on_exit: bool) -> None:
        server.on("Send", [accepted(), events(message_event(8, "user")), silence])
        stream = session.stream("x", abort_on_exit=abort_on_exit)
        if colour.is_async:
            async for _ in stream:
                break
        else:
            await asyncio.to_thread(lambda: next(iter(stream)))
        async with asyncio.timeout(PATIENCE_S):
            await server.cancelled.wait()
        assert server.of("Send")[0].abort_on_disconnect is abort_on_exit
        assert server.of("Abort") == []
