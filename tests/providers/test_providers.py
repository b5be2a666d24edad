"""All protocols, against a server that speaks them: answers and faults."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from sessiond.v1.turn_pb2 import Usage
from sessiond_server.providers.anthropic_messages import DEFAULT_MAX_TOKENS

from ..support.model_server import ModelServer, Reply, fails
from ..support.strict_models.signing import Signer
from .asking import hear, openai, question
from .made import CALLS, HISTORIES, KEY, Made


class TestAnswers:
    async def test_text_is_streamed_and_comes_whole(
        self, make: Made, model_server: ModelServer
    ) -> None:
        model_server.script(Reply("Grüße, 你好 👋 world.", usage=(12, 5)))
        heard = await hear(make(), question("Hi", model="some-model"))
        assert [delta.text for delta in heard.deltas] == ["Grüße, ", "你好 ", "👋 ", "world."]
        expected = make.by_kind(
            openai={"role": "assistant", "content": heard.text},
            openai_responses={
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": heard.text, "annotations": []}],
            },
            anthropic={"role": "assistant", "content": [{"type": "text", "text": heard.text}]},
            gemini={
                "role": "model",
                "parts": [
                    {"text": heard.text},
                    {"text": "", "thoughtSignature": Signer("gemini").sign()},
                ],
            },
        )
        assert heard.message == expected
        assert heard.answer.model == "some-model"
        assert heard.answer.stop_reason == make.by_kind(
            openai="stop", openai_responses="completed", anthropic="end_turn", gemini="STOP"
        )
        assert heard.answer.usage == Usage(input_tokens=12, output_tokens=5)

    async def test_the_request_has_what_was_asked(
        self, make: Made, model_server: ModelServer
    ) -> None:
        asked = question(
            "Hi", model="m-1", system_prompt="Be brief.", temperature=0, tools=[], stream=False
        )
        await hear(make(), asked)
        (received,) = model_server.requests
        body = received.body
        sampling = body["generationConfig"] if make.kind == "gemini" else body
        assert (sampling["temperature"], body["tools"]) == (0, [])
        user = {"role": "user", "content": "Hi"}
        match make.kind:
            case "openai":
                assert received.path == "/v1/chat/completions"
                assert body["messages"] == [{"role": "system", "content": "Be brief."}, user]
                assert body["stream_options"] == {"include_usage": True}
            case "openai-responses":
                assert received.path == "/v1/responses"
                assert (body["instructions"], body["input"]) == ("Be brief.", [user])
                assert (body["store"], body["include"]) == (False, ["reasoning.encrypted_content"])
            case "anthropic":
                assert received.path == "/v1/messages"
                assert body["system"] == [{"type": "text", "text": "Be brief."}]
                assert body["messages"] == [user]
                assert body["max_tokens"] == DEFAULT_MAX_TOKENS
            case _:
                assert received.path == "/v1beta/models/m-1:streamGenerateContent?alt=sse"
                assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
                assert body["contents"] == [{"role": "user", "parts": [{"text": "Hi"}]}]
        if make.kind == "gemini":
            assert received.headers["x-goog-api-key"] == KEY
        else:
            assert received.headers["authorization"] == f"Bearer {KEY}"
            assert (body["model"], body["stream"]) == ("m-1", True)

    async def test_calls_of_tools_come_exactly(self, make: Made, model_server: ModelServer) -> None:
        model_server.script(Reply(tool_calls=CALLS))
        heard = await hear(make(), question())
        function = [{"name": name, "arguments": text} for _, name, text in CALLS]
        match make.kind:
            case "openai":
                assert heard.message == {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": i, "type": "function", "function": f}
                        for (i, *_), f in zip(CALLS, function, strict=True)
                    ],
                }
            case "openai-responses":
                assert [
                    {key: item[key] for key in ("name", "arguments")} for item in heard.items
                ] == function
                assert [item["call_id"] for item in heard.items] == [i for i, *_ in CALLS]
            case "anthropic":
                assert heard.message["content"] == [
                    {"type": "tool_use", "id": i, "name": n, "input": json.loads(a)}
                    for i, n, a in CALLS
                ]
            case _:
                called = [part["functionCall"] for part in heard.message["parts"]]
                assert called == [{"name": n, "args": json.loads(a)} for _, n, a in CALLS]
                assert heard.message["parts"][0]["thoughtSignature"]
        assert heard.answer.stop_reason == make.by_kind(
            openai="tool_calls", openai_responses="completed", anthropic="tool_use", gemini="STOP"
        )
        assert heard.deltas == []

    async def test_thinking_is_told_apart_and_kept(
        self, make: Made, model_server: ModelServer
    ) -> None:
        model_server.script(
            Reply("42.", thinking="Let me see.", signature="c2ln", stop_reason="length")
        )
        heard = await hear(make(), question())
        assert (heard.thinking, heard.text) == ("Let me see.", "42.")
        assert heard.answer.stop_reason == make.by_kind(
            openai="length", openai_responses="completed", anthropic="length", gemini="length"
        )
        match make.kind:
            case "openai":
                assert heard.message == {
                    "role": "assistant",
                    "content": "42.",
                    "reasoning_content": "Let me see.",
                }
            case "openai-responses":
                reasoning, message = heard.items
                assert reasoning["summary"] == [{"type": "summary_text", "text": "Let me see."}]
                assert reasoning["encrypted_content"]
                assert message["content"][0]["text"] == "42."
            case "anthropic":
                thinking = {"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"}
                assert heard.message["content"] == [thinking, {"type": "text", "text": "42."}]
            case _:
                thought, answer, _ = heard.message["parts"]
                assert thought == {"text": "Let me see.", "thought": True}
                assert answer == {"text": "42."}

    async def test_an_answer_goes_back_byte_for_byte(
        self, make: Made, model_server: ModelServer
    ) -> None:
        model_server.script(Reply("Wait.", tool_calls=CALLS))
        provider = make()
        answer = (await hear(provider, question())).answer
        values = [json.loads(message) for message in answer.messages]
        history = HISTORIES[make.kind](*values)
        for message, text in zip(history, answer.messages, strict=True):
            message.json = text
        await hear(provider, question(history))
        sent = model_server.requests[1].content
        for text in answer.messages:
            assert text.encode() in sent

    async def test_no_usage_is_none(self, make: Made, model_server: ModelServer) -> None:
        model_server.script(Reply("Hi.", usage=None))
        assert (await hear(make(), question())).answer.usage is None

    async def test_half_a_surrogate_pair_is_replaced(
        self, make: Made, model_server: ModelServer
    ) -> None:
        history = openai({"role": "user", "content": "x"})
        history[0].json = '{"role":"user","content":"half: \\ud83d"}'
        assert (await hear(make(), question(history))).text
        assert "half: \\ufffd" in json.dumps(model_server.requests[0].body)

    async def test_a_key_is_not_needed(
        self, make: Made, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in (
            "OPENAI_API_KEY",
            "OPENAI_ADMIN_KEY",
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN",
        ):
            monkeypatch.setenv(name, "sk-not-yours-12345678")
        assert (await hear(make(api_key=None), question())).text
        assert "not-yours" not in str(model_server.requests[0].headers)


def words(make: Made, **error: Any) -> Reply:
    return Reply("One two three.", after=make.events_of(1), then="error", error=error)


class TestFaults:
    @pytest.mark.parametrize(
        ("status", "reason"),
        [
            (400, "MODEL_REQUEST_REJECTED"),
            (401, "MODEL_ACCESS_DENIED"),
            (403, "MODEL_ACCESS_DENIED"),
            (404, "MODEL_REQUEST_REJECTED"),
            (408, "MODEL_UNAVAILABLE"),
            (409, "MODEL_UNAVAILABLE"),
            (413, "MODEL_REQUEST_REJECTED"),
            (422, "MODEL_REQUEST_REJECTED"),
            (429, "MODEL_RATE_LIMITED"),
            (500, "MODEL_UNAVAILABLE"),
            (503, "MODEL_UNAVAILABLE"),
            (529, "MODEL_UNAVAILABLE"),
        ],
    )
    async def test_of_http(
        self, make: Made, model_server: ModelServer, status: int, reason: str
    ) -> None:
        model_server.script(
            fails(status, f"No, not with {KEY} or sk-proj-abcdefgh****wxyz. " + "Long. " * 200)
        )
        fault = (await hear(make(retries=0), question(model="m-1"))).refusal
        assert fault.reason == reason
        assert fault.metadata == {"model": "m-1", "provider": make.kind, "http_status": status}
        assert "No, not with *** or ***" in fault.message
        assert len(fault.message) < 600
        assert "sk-" not in fault.message
        assert len(model_server.requests) == 1

    async def test_bodies_that_are_no_json(self, make: Made, model_server: ModelServer) -> None:
        model_server.script(
            Reply(status=502, body="<html>Bad\n gateway</html>"),
            Reply(status=400, body='{"detail": "no such thing"}'),
        )
        assert (
            "<html>Bad gateway</html>" in (await hear(make(retries=0), question())).refusal.message
        )
        assert "no such thing" in (await hear(make(retries=0), question())).refusal.message

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({"retry-after": "30"}, 30),
            ({"retry-after": "0.5"}, 0.5),
            ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
            (
                {
                    "retry-after": format_datetime(
                        datetime.now(UTC) - timedelta(hours=1), usegmt=True
                    )
                },
                0,
            ),
            ({"retry-after": "soon"}, None),
        ],
    )
    async def test_when_to_come_back(
        self, make: Made, model_server: ModelServer, headers: dict[str, str], seconds: float | None
    ) -> None:
        model_server.script(fails(429, headers=headers))
        fault = (await hear(make(retries=0), question())).refusal
        assert fault.retry_after_s == seconds
        assert fault.metadata.get("retry_after_s") == seconds

    async def test_when_to_come_back_by_a_date(self, make: Made, model_server: ModelServer) -> None:
        model_server.script(
            fails(
                429,
                headers={
                    "retry-after": format_datetime(
                        datetime.now(UTC) + timedelta(hours=1), usegmt=True
                    )
                },
            )
        )
        after = (await hear(make(), question())).refusal.retry_after_s
        assert after is not None
        assert 3000 < after <= 3600
        assert len(model_server.requests) == 1

    async def test_nobody_is_there(self, make: Made) -> None:
        heard = await hear(make(base_url="http://127.0.0.1:1", retries=0), question())
        assert heard.refusal.reason == "MODEL_UNAVAILABLE"
        assert "http_status" not in heard.refusal.metadata

    @pytest.mark.parametrize("then", ["cut", "stop"])
    async def test_a_stream_that_breaks_off(
        self, make: Made, model_server: ModelServer, then: Any
    ) -> None:
        model_server.script(Reply("One two three.", after=make.events_of(2), then=then))
        heard = await hear(make(), question())
        assert heard.refusal.reason == "MODEL_UNAVAILABLE"
        assert heard.text.startswith("One two ")
        # A call is not retried once something was streamed.
        assert len(model_server.requests) == 1

    @pytest.mark.parametrize("words_before", [-1, 0, 2])
    async def test_silence(self, make: Made, model_server: ModelServer, words_before: int) -> None:
        reply = Reply("One two three.", after=make.events_of(words_before), then="hold")
        attempts = 0
        # On a slow machine, the time may be over before the request has arrived.
        while not model_server.requests:
            timeout_s = 0.2 * 4**attempts
            attempts += 1
            model_server.script(reply)
            fault = (await hear(make(silence_timeout_s=timeout_s), question())).refusal
            assert fault.reason == "MODEL_TIMED_OUT"
            assert fault.metadata == {
                "model": "m",
                "provider": make.kind,
                "timeout_s": timeout_s,
            }
        assert await asyncio.to_thread(model_server.wait_until_left)
        assert len(model_server.requests) <= attempts

    async def test_what_is_no_json(self, make: Made, model_server: ModelServer) -> None:
        model_server.script(Reply("One two three.", after=make.events_of(1), then="garbage"))
        assert (await hear(make(), question())).refusal.reason == "MODEL_ANSWER_INVALID"

    @pytest.mark.parametrize(
        "event",
        [{"type": "content_block_delta"}, {"type": "message_start", "choices": [1], "message": 3}],
    )
    async def test_what_is_not_of_the_protocol(
        self, make: Made, model_server: ModelServer, event: dict[str, Any]
    ) -> None:
        model_server.script(Reply(events=[event]))
        fault = (await hear(make(retries=0), question())).refusal
        assert fault.reason in ("MODEL_ANSWER_INVALID", "MODEL_UNAVAILABLE")

    async def test_an_empty_answer(self, make: Made, model_server: ModelServer) -> None:
        model_server.script(Reply(""))
        fault = (await hear(make(), question())).refusal
        assert fault.reason == "MODEL_ANSWER_INVALID"
        assert len(model_server.requests) == 1

    async def test_what_is_no_stream(self, make: Made, model_server: ModelServer) -> None:
        model_server.script(Reply(events=[], headers={"content-type": "text/html"}, then="stop"))
        assert (await hear(make(), question())).refusal.reason == "MODEL_ANSWER_INVALID"

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            ({"type": "overloaded_error", "message": "Overloaded"}, "MODEL_UNAVAILABLE"),
            ({"type": "rate_limit_error", "message": "Slow down"}, "MODEL_RATE_LIMITED"),
            (
                {"type": "tokens", "code": "rate_limit_exceeded", "message": "Slow down"},
                "MODEL_RATE_LIMITED",
            ),
            ({"type": "invalid_request_error", "message": "Too long"}, "MODEL_REQUEST_REJECTED"),
            ({"code": 502, "message": "Upstream"}, "MODEL_UNAVAILABLE"),
            ({"type": "new_error", "message": "Hm"}, "MODEL_UNAVAILABLE"),
        ],
    )
    async def test_errors_in_the_stream(
        self, make: Made, model_server: ModelServer, error: dict[str, Any], reason: str
    ) -> None:
        model_server.script(words(make, **error))
        heard = await hear(make(), question())
        assert heard.refusal.reason == reason
        assert error["message"] in heard.refusal.message
        assert heard.text == "One "
