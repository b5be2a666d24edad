"""Send: the fields of its request, its retries, and attachments."""

import asyncio
import base64
import pickle
from datetime import timedelta

import grpc
import pytest

from sessiond import errors
from sessiond.v1 import asset_service_pb2, message_pb2
from sessiond.v1.conversation_service_pb2 import (
    SEND_MODE_ENQUEUE,
    SEND_MODE_IMMEDIATE,
    SendResponse,
)

from ..support.waiting import PATIENCE_S
from .turn_responses import UNAVAILABLE, accepted, broken, silence, turn


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
        # The client leaves the stream without ending the turn.
        async with asyncio.timeout(PATIENCE_S):
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
        assert request.options_json == '{"temperature":0.5,"max_tokens":7}'

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
            ("x", {"options": {"n": {1}}}, "options.n"),
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
    async def test_a_bad_value_names_its_field(
        self, colour, server, session, prompt, keywords, field: str
    ) -> None:
        for call in (session.send, session.send_and_wait):
            with pytest.raises(errors.InvalidField) as caught:
                await colour.call(call, prompt, **keywords)
            assert caught.value.field_violations[0].field == field
        assert server.of("Send") == []

    async def test_unknown_keywords_are_refused(self, colour, session) -> None:
        with pytest.raises(errors.InvalidField, match="promt is not known"):
            await colour.call(session.send, promt="x")
        with pytest.raises(errors.InvalidField):
            await colour.call(session.send_and_wait, "x", on_timeout="wait")

    async def test_is_repeated_with_the_same_request_id(
        self, colour, server, session, impatient
    ) -> None:
        draining = server.abort(UNAVAILABLE, "bye", reason="SERVER_DRAINING", retry_after_s=0.001)
        server.on("Send", draining, [broken(server)], [accepted()])
        assert await colour.call(session.send, "x") == "s/m1"
        first, second, third = server.of("Send")
        assert first == second == third

    async def test_gives_up_where_no_server_answers(
        self, colour, server, session, impatient
    ) -> None:
        server.on("Send", broken(server))
        with pytest.raises(errors.ServerUnavailable):
            await colour.call(session.send_and_wait, "x", timeout=float("inf"))

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
            ("image/png", "asset_id"),  # inline, both would be too large together
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
