"""Turns: what is sent, whose answer comes back, over broken connections, and what the handlers get of it."""

import asyncio
import base64
import logging
import pickle
from datetime import timedelta
from typing import Any

import grpc
import pytest

from sessiond import errors
from sessiond._protocol.structs import from_struct
from sessiond._requests import watch as watch_requests
from sessiond.v1 import asset_service_pb2, event_pb2, message_pb2, session_pb2, turn_pb2
from sessiond.v1.conversation_service_pb2 import (
    SEND_MODE_ENQUEUE,
    SEND_MODE_IMMEDIATE,
    AbortResponse,
    ListTurnsResponse,
    SendResponse,
    WatchResponse,
)

from ..support.waiting import until_async

RUNNING, COMPLETED, FAILED = (
    turn_pb2.TURN_STATE_RUNNING,
    turn_pb2.TURN_STATE_COMPLETED,
    turn_pb2.TURN_STATE_FAILED,
)
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE

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


def turn(state: Any = RUNNING, *, id: str = "t1", last_seq: int = 0) -> turn_pb2.Turn:
    return turn_pb2.Turn(turn_id=id, session_id="s", state=state, model="m", last_seq=last_seq)


def accepted(id: str = "t1", message_id: str = "m1") -> SendResponse:
    return SendResponse(turn=turn(id=id), message_id=message_id)


def completed(last_seq: int, id: str = "t1") -> SendResponse:
    return SendResponse(turn=turn(COMPLETED, id=id, last_seq=last_seq))


def stored(
    seq: int, role: str = "assistant", turn_id: str = "t1", message_id: str = ""
) -> message_pb2.Message:
    number = message_pb2.Role.Value(f"ROLE_{role.upper()}")
    text = f'{{"role":"{role}","content":"answer {seq}"}}'
    of = turn_pb2.MessageTurn(turn_id=turn_id, message_id=message_id)
    return message_pb2.Message(
        seq=seq, role=number, json=text, format=message_pb2.FORMAT_OPENAI, turn=of
    )


def said(
    seq: int, role: str = "assistant", turn_id: str = "t1", message_id: str = ""
) -> event_pb2.Event:
    return event_pb2.Event(
        type=f"{role}.message",
        seq=seq,
        session_id="s",
        message=stored(seq, role, turn_id, message_id),
    )


def told(type: str, **data: Any) -> event_pb2.Event:
    event = event_pb2.Event(type=type, session_id="s")
    event.data.update({"turn_id": "t1", **data})
    return event


def events(*happened: event_pb2.Event) -> SendResponse:
    return SendResponse(events=happened)


def answered(seq: int = 9) -> list[SendResponse]:
    """A turn from its beginning to its end."""
    return [accepted(), events(said(seq - 1, "user", message_id="m1"), said(seq)), completed(seq)]


def cut(server: Any, code: grpc.StatusCode = UNAVAILABLE, text: str = "Socket closed") -> Any:
    return server.abort(code, text)


async def silence(request: Any, context: Any) -> None:
    await asyncio.Event().wait()


@pytest.fixture
async def session(colour, server, client) -> Any:
    server.on("GetSession", session_pb2.Session(session_id="s", last_seq=7))
    return await colour.call(client.get_session, "s")


class TestSend:
    async def test_returns_when_the_turn_is_accepted(self, colour, server, session) -> None:
        server.on("Send", [accepted(), silence])
        sent = await colour.call(session.send, "Hello")
        assert sent == str(sent) == "s/m1"
        assert isinstance(sent, str)
        assert sent.turn_id == "t1"
        copy = pickle.loads(pickle.dumps(sent))  # noqa: S301
        assert (type(copy), copy, copy.turn_id) == (type(sent), sent, "t1")
        (request,) = server.of("Send")
        assert (request.session_id, request.prompt, request.mode, request.abort_on_disconnect) == (
            "s",
            "Hello",
            SEND_MODE_ENQUEUE,
            False,
        )
        assert request.request_id
        # The stream is left, and the turn goes on.
        async with asyncio.timeout(60):
            await server.cancelled.wait()

    async def test_by_string_by_keyword_and_by_dict(self, colour, server, session) -> None:
        server.on("Send", [accepted()])
        await colour.call(session.send, "x", mode="immediate", request_id="r")
        await colour.call(session.send, prompt="x", mode="immediate", request_id="r")
        await colour.call(session.send, {"prompt": "x", "mode": "immediate", "requestId": "r"})
        first, second, third = server.of("Send")
        assert first == second == third
        assert (first.prompt, first.mode, first.request_id) == ("x", SEND_MODE_IMMEDIATE, "r")

    async def test_all_that_can_be_said(self, colour, server, client) -> None:
        server.on("Send", [accepted()])
        messages = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
        await colour.call(
            client.sessions.send,
            "s",
            messages=messages,
            format="anthropic",
            model="p/m",
            options={"temperature": 0.5, "max_tokens": 7},
            turn_timeout=timedelta(seconds=90),
        )
        (request,) = server.of("Send")
        assert [(m.format, m.json) for m in request.messages] == [
            (message_pb2.FORMAT_ANTHROPIC, '{"role":"user","content":"a"}'),
            (message_pb2.FORMAT_ANTHROPIC, '{"role":"user","content":"b"}'),
        ]
        assert (request.prompt, request.model, request.turn_timeout.seconds) == ("", "p/m", 90)
        assert from_struct(request.options) == {"temperature": 0.5, "max_tokens": 7}

    async def test_nothing_has_the_model_go_on(self, colour, server, session) -> None:
        server.on("Send", [SendResponse(turn=turn())])
        sent = await colour.call(session.send)
        assert (sent, sent.turn_id) == ("", "t1")
        (request,) = server.of("Send")
        assert (request.prompt, len(request.messages)) == ("", 0)

    @pytest.mark.parametrize(
        ("prompt", "keywords", "field"),
        [
            ("", {}, "prompt"),
            (7, {}, "prompt"),
            ({"role": "user", "content": "x"}, {}, "prompt"),
            ({"promt": "x"}, {}, "prompt.promt"),
            ({"prompt": "x", "mode": "immediate"}, {"mode": "immediate"}, "mode"),
            ("x", {"messages": [{"role": "user"}]}, "messages"),
            (None, {"messages": []}, "messages"),
            (None, {"messages": {"role": "user"}}, "messages"),
            (
                None,
                {"messages": [{"role": "user"}], "attachments": [(b"x", "image/png")]},
                "messages",
            ),
            ("x", {"mode": "later"}, "mode"),
            ("x", {"options": {"n": 2**60}}, "options.n"),
            ("x", {"turn_timeout": float("inf")}, "turn_timeout"),
            ("x", {"attachments": "a.png"}, "attachments"),
            ("x", {"attachments": [b"x"]}, "attachments[0]"),
            ("x", {"attachments": [7]}, "attachments[0]"),
            ("x", {"attachments": ["/nowhere/a.png"]}, "attachments[0].path"),
            ("x", {"attachments": [{"path": "a", "uri": "b"}]}, "attachments[0]"),
            ("x", {"attachments": [{"type": "file"}]}, "attachments[0]"),
            ("x", {"attachments": [{"type": "folder", "path": "a"}]}, "attachments[0].type"),
            ("x", {"attachments": [{"path": "a", "colour": "red"}]}, "attachments[0].colour"),
            ("x", {"attachments": [{"data": "$"}]}, "attachments[0].data"),
            ("x", {"attachments": [{"data": 7}]}, "attachments[0].data"),
            ("x", {"attachments": [{"path": 7}]}, "attachments[0].path"),
            ("x", {"attachments": [{"uri": 7}]}, "attachments[0].uri"),
        ],
    )
    async def test_what_cannot_be_sent_names_the_field(
        self, colour, server, session, prompt, keywords, field: str
    ) -> None:
        for call in (session.send, session.send_and_wait):
            with pytest.raises(errors.InvalidField) as caught:
                await colour.call(call, prompt, **keywords)
            assert caught.value.field_violations[0].field == field
        assert server.of("Send") == []

    async def test_unknown_keywords_are_refused(self, colour, session) -> None:
        with pytest.raises(TypeError, match="promt"):
            await colour.call(session.send, promt="x")
        with pytest.raises(errors.InvalidField):
            await colour.call(session.send_and_wait, "x", on_timeout="wait")

    async def test_is_repeated_with_the_same_request_id(
        self, colour, server, session, impatient
    ) -> None:
        draining = server.abort(UNAVAILABLE, "bye", reason="SERVER_DRAINING", retry_after_s=0.001)
        server.on("Send", draining, [cut(server)], [accepted()])
        assert await colour.call(session.send, "x") == "s/m1"
        first, second, third = server.of("Send")
        assert first == second == third

    async def test_gives_up_where_no_server_answers(
        self, colour, server, session, impatient
    ) -> None:
        server.on("Send", cut(server))
        with pytest.raises(errors.ServerUnavailable):
            await colour.call(session.send_and_wait, "x")

    async def test_refusals_are_raised(self, colour, server, session, impatient) -> None:
        refusal = server.abort(
            grpc.StatusCode.FAILED_PRECONDITION,
            "no key",
            reason="MODEL_NOT_CONFIGURED",
            metadata={"model": "m"},
        )
        server.on("Send", refusal)
        for call in (session.send, session.send_and_wait):
            with pytest.raises(errors.ModelNotConfigured):
                await colour.call(call, "x")
        assert len(server.of("Send")) == 2


class TestAttachments:
    async def test_each_kind(self, colour, server, session, tmp_path) -> None:
        asset_id = "a" * 64
        server.on("Send", [accepted()])
        server.on("GetAsset", asset_service_pb2.Asset(asset_id=asset_id, media_type="audio/wav"))
        picture = tmp_path / "a.png"
        picture.write_bytes(b"png")
        sound = base64.b64encode(b"ogg").decode()
        attachments = [
            picture,
            str(picture),
            (b"pdf", "application/pdf"),
            {"type": "file", "path": str(picture), "displayName": "the picture"},
            {"type": "blob", "data": sound, "mimeType": "audio/ogg", "displayName": "sound"},
            {"url": "https://example.com/b.jpg"},
            "https://example.com/c",
            {"asset_id": asset_id},
            f"sessiond-asset:{asset_id}",
            {"assetId": asset_id, "media_type": "image/gif"},
        ]
        await colour.call(session.send, {"prompt": "look", "attachments": attachments})
        (request,) = server.of("Send")
        (message,) = request.messages
        blob, part = message_pb2.Blob, message_pb2.Part
        assert request.prompt == ""
        assert message.role == message_pb2.ROLE_USER
        assert list(message.parts.parts) == [
            part(text="look"),
            part(image=blob(media_type="image/png", inline=b"png", name="a.png")),
            part(image=blob(media_type="image/png", inline=b"png", name="a.png")),
            part(file=blob(media_type="application/pdf", inline=b"pdf")),
            part(image=blob(media_type="image/png", inline=b"png", name="the picture")),
            part(audio=blob(media_type="audio/ogg", inline=b"ogg", name="sound")),
            part(image=blob(media_type="image/jpeg", uri="https://example.com/b.jpg")),
            part(file=blob(uri="https://example.com/c")),
            part(audio=blob(media_type="audio/wav", asset_id=asset_id)),
            part(audio=blob(media_type="audio/wav", asset_id=asset_id)),
            part(image=blob(media_type="image/gif", asset_id=asset_id)),
        ]

    async def test_without_a_prompt(self, colour, server, session) -> None:
        server.on("Send", [accepted()])
        await colour.call(session.send, attachments=[(b"x", "image/png")])
        await colour.call(session.send, "", attachments=[(b"x", "image/png")])
        for request in server.of("Send"):
            assert [part.WhichOneof("kind") for part in request.messages[0].parts.parts] == [
                "image"
            ]

    async def test_large_ones_are_uploaded(
        self, colour, server, session, tmp_path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in ("_async", "_sync"):
            monkeypatch.setattr(f"sessiond.{module}._attachments.MAX_INLINE_BYTES", 10)
            monkeypatch.setattr(f"sessiond.{module}._attachments.MAX_ALL_INLINE_BYTES", 15)
        server.on("Send", [accepted()])
        server.on(
            "UploadAsset", asset_service_pb2.Asset(asset_id="b" * 64, media_type="text/plain")
        )
        large = tmp_path / "large.png"
        large.write_bytes(b"x" * 11)
        small = (b"y" * 10, "image/png")
        await colour.call(
            session.send, "look", attachments=[large, small, small, (b"z" * 11, "image/gif")]
        )
        (message,) = server.of("Send")[0].messages
        _, *parts = [part.image for part in message.parts.parts]
        assert [(p.media_type, p.WhichOneof("source")) for p in parts] == [
            ("image/png", "asset_id"),
            ("image/png", "inline"),
            ("image/png", "asset_id"),  # together they would be too large
            ("image/gif", "asset_id"),
        ]
        assert [
            b"".join(piece.data for piece in pieces) for pieces in server.of("UploadAsset")
        ] == [b"x" * 11, b"y" * 10, b"z" * 11]

    async def test_an_upload_that_fails_is_no_broken_file(
        self, colour, server, session, tmp_path
    ) -> None:
        large = tmp_path / "large.png"
        large.write_bytes(b"x" * 300_000)
        server.on(
            "UploadAsset",
            server.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "late", reason="DEADLINE_EXCEEDED"),
        )
        with pytest.raises(errors.DeadlineExceeded):
            await colour.call(session.send, "x", attachments=[large])

    async def test_nothing_is_read_before_the_stream_is_iterated_over(
        self, colour, server, session
    ) -> None:
        stream = session.stream("x", attachments=["/nowhere/a.png"])
        with pytest.raises(errors.InvalidField):
            await colour.collect(stream)


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
                    said(8, "user"),
                    said(9, turn_id="other"),
                    told("assistant.message_delta", delta_content="a"),
                    said(10),
                ),
                SendResponse(),
                events(said(11, turn_id="other")),
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
                events(said(8, "user"), said(9), said(10, "tool"), said(11)),
                completed(11),
            ],
        )
        assert (await colour.call(session.send_and_wait, "x")).seq == 11

    async def test_of_the_turn_that_it_steered(self, colour, server, session) -> None:
        # The turn that was joined failed before, and what was sent has a turn of its own.
        server.on(
            "Send",
            [
                accepted("t0"),
                events(said(9, turn_id="t0")),
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
            [accepted(), events(said(8, "user")), cut(server)],
            # Longer than any other call would be repeated.
            *[cut(server)] * 20,
            [accepted(), draining],
            [accepted(), too_slow],
            [
                accepted(),
                cut(server, grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2"),
            ],
            [accepted()],  # and an end without the turn's
            [accepted(), events(said(9)), completed(9)],
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
            "Send", [accepted(), events(said(8, "user"), said(9)), cut(server)], [completed(11)]
        )
        server.on("GetMessage", stored(11))
        assert (await colour.call(session.send_and_wait, "x")).content == "answer 11"
        assert [request.seq for request in server.of("GetMessage")] == [11]

    async def test_a_silent_stream_is_taken_for_broken(
        self, colour, server, session, impatient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watch_requests, "MAX_SILENCE_S", 0.2)
        server.on("Send", [accepted(), silence], answered())
        assert (await colour.call(session.send_and_wait, "x")).seq == 9
        # A slow machine may find more than one connection silent.
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
        server.on("Send", [accepted(), events(said(8, "user")), failure])
        with pytest.raises(errors.TurnFailed, match="what happened") as caught:
            await colour.call(session.send_and_wait, "x")
        assert (type(caught.value), caught.value.turn_id, caught.value.code) == (cls, "t1", code)
        # Sent again, it would be answered with the same.
        assert len(server.of("Send")) == 1

    async def test_a_failure_that_is_told_by_the_turn_alone(self, colour, server, session) -> None:
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
        server.on("Send", [accepted(), silence])
        with pytest.raises(TimeoutError, match="t1") as caught:
            await colour.call(session.send_and_wait, "x", timeout=0.3)
        assert isinstance(caught.value, errors.DeadlineExceeded)
        assert caught.value.metadata["turn_id"] == "t1"
        assert not server.of("Send")[0].abort_on_disconnect
        assert server.of("Abort") == []

    async def test_the_time_is_over_and_the_turn_is_aborted(self, colour, server, session) -> None:
        server.on("Send", [accepted(), silence])
        server.on("Abort", AbortResponse(turns=[turn(turn_pb2.TURN_STATE_ABORTED)]))
        with pytest.raises(errors.DeadlineExceeded):
            await colour.call(session.send_and_wait, "x", timeout=0.3, on_timeout="abort")
        assert server.of("Send")[0].abort_on_disconnect
        assert [(request.session_id, request.turn_id) for request in server.of("Abort")] == [
            ("s", "t1")
        ]

    async def test_an_abort_that_fails_hides_nothing(self, colour, server, session) -> None:
        server.on("Send", [accepted(), silence])
        with pytest.raises(errors.DeadlineExceeded):
            await colour.call(session.send_and_wait, "x", timeout=0.3, on_timeout="abort")
        assert len(server.of("Abort")) == 1

    async def test_the_time_is_over_while_the_server_is_away(
        self, colour, server, session, impatient
    ) -> None:
        server.on("Send", [accepted(), cut(server)], cut(server))
        with pytest.raises(errors.DeadlineExceeded) as caught:
            await colour.call(session.send_and_wait, "x", timeout=0.5)
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
        # That is what abort_on_disconnect goes by.
        assert server.of("Send")[0].abort_on_disconnect
        async with asyncio.timeout(60):
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
            told("assistant.message_delta", delta_content=text, n=i) for i, text in enumerate("ab")
        ]
        server.on(
            "Send",
            [
                accepted(),
                events(said(8, "user", message_id="m1"), told("assistant.turn_start", model="m")),
                events(*delta),
                cut(server),
            ],
            [
                accepted(),
                SendResponse(),
                events(said(9), told("assistant.turn_end", state="completed")),
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
                events(said(8, "user"), told("session.error", reason="TURN_ABORTED")),
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
        server.on("Send", [accepted(), events(said(8, "user")), silence])
        stream = session.stream("x", abort_on_exit=abort_on_exit)
        if colour.is_async:
            async for _ in stream:
                break
        else:
            await asyncio.to_thread(lambda: next(iter(stream)))
        async with asyncio.timeout(60):
            await server.cancelled.wait()
        assert server.of("Send")[0].abort_on_disconnect is abort_on_exit
        assert server.of("Abort") == []


class TestTurns:
    async def test_abort(self, colour, server, session) -> None:
        server.on(
            "Abort", AbortResponse(turns=[turn(turn_pb2.TURN_STATE_ABORTED)]), AbortResponse()
        )
        (ended,) = await colour.call(session.abort)
        assert (ended.turn_id, ended.state) == ("t1", "aborted")
        assert await colour.call(session.abort, "t2", request_id="r") == []
        await colour.call(session.abort, include_queued=True)
        first, second, third = server.of("Abort")
        assert (first.session_id, first.turn_id, first.include_queued) == ("s", "", False)
        assert first.request_id
        assert (second.turn_id, second.request_id) == ("t2", "r")
        assert third.include_queued
        with pytest.raises(errors.InvalidField):
            await colour.call(session.abort, "")

    async def test_get_and_list(self, colour, server, session) -> None:
        server.on("GetTurn", turn(COMPLETED, last_seq=9))
        server.on(
            "ListTurns",
            ListTurnsResponse(turns=[turn(id="b")], next_page_token="1"),
            ListTurnsResponse(turns=[turn(id="a")]),
        )
        assert (await colour.call(session.get_turn, "t1")).last_seq == 9
        assert server.of("GetTurn")[0].turn_id == "t1"
        assert [
            t.turn_id for t in await colour.collect(session.turns(state="running", page_size=1))
        ] == ["b", "a"]
        first, second = server.of("ListTurns")
        assert (first.session_id, first.state, first.page_size, first.page_token) == (
            "s",
            RUNNING,
            1,
            "",
        )
        assert second.page_token == "1"
        with pytest.raises(errors.InvalidField):
            session.turns(state="asleep")

    async def test_waiting_for_one_that_has_ended(self, colour, server, session) -> None:
        server.on("Watch", [WatchResponse(events=[said(8)]), silence])
        server.on("GetTurn", turn(COMPLETED, last_seq=9))
        server.on("GetMessage", stored(9))
        assert (await colour.call(session.wait_for_turn, "t1")).seq == 9

    async def test_waiting_for_one_that_ends(self, colour, server, session, impatient) -> None:
        other, ours = (
            told("assistant.turn_end", turn_id="t0"),
            told("assistant.turn_end", state="completed"),
        )
        server.on(
            "Watch",
            [
                WatchResponse(),
                WatchResponse(events=[other, said(8)]),
                WatchResponse(events=[ours]),
                silence,
            ],
        )
        server.on("GetTurn", turn(), turn(COMPLETED, last_seq=9))
        server.on("GetMessage", stored(9))
        assert (await colour.call(session.wait_for_turn, "t1")).seq == 9
        # Looked at twice: when the watching had begun, and when it was over.
        assert len(server.of("GetTurn")) == 2

    async def test_an_end_that_was_missed(self, colour, server, session, impatient) -> None:
        server.on(
            "Watch", [WatchResponse(), cut(server)], [WatchResponse(events=[said(8)]), silence]
        )
        server.on("GetTurn", turn(), turn(FAILED))
        with pytest.raises(errors.TurnFailed):
            await colour.call(session.wait_for_turn, "t1")

    async def test_waiting_for_too_long(self, colour, server, session) -> None:
        server.on("Watch", [WatchResponse(), silence])
        server.on("GetTurn", turn())
        with pytest.raises(TimeoutError) as caught:
            await colour.call(session.wait_for_turn, "t1", timeout=0.3)
        assert caught.value.metadata["turn_id"] == "t1"


class TestHandlers:
    @pytest.fixture(autouse=True)
    def patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As long as it takes, so that what goes on only because the time was over is noticed."""
        self.patch = monkeypatch
        self.set_patience(200.0)

    def set_patience(self, seconds: float) -> None:
        for module in ("_async", "_sync"):
            for name in ("READY_TIMEOUT_S", "DELIVERED_TIMEOUT_S"):
                self.patch.setattr(f"sessiond.{module}._handlers.{name}", seconds)

    @pytest.mark.parametrize("how", ["send", "send_and_wait", "stream"])
    async def test_they_listen_before_something_is_sent(
        self, colour, server, session, how: str
    ) -> None:
        go = asyncio.Event()

        async def late(request: Any, context: Any) -> None:
            await go.wait()

        server.on(
            "Watch",
            [late, WatchResponse(), WatchResponse(events=[said(8, "user"), said(9)]), silence],
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

    async def test_they_have_been_called_when_the_answer_is_there(
        self, colour, server, session
    ) -> None:
        go, seen = asyncio.Event(), []

        async def late(request: Any, context: Any) -> None:
            await go.wait()

        async def over(request: Any, context: Any) -> None:
            # The answer has been sent; the watchers get it only now.
            go.set()

        delta = told("assistant.message_delta", delta_content="a")
        server.on(
            "Watch",
            [
                WatchResponse(),
                late,
                WatchResponse(events=[said(8, "user"), delta]),
                WatchResponse(events=[said(9)]),
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
            "Watch", [WatchResponse(), WatchResponse(events=[said(8, "user"), said(9)]), silence]
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

        server.on("Watch", [WatchResponse(), cut(server)], [late, WatchResponse(), silence])
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
