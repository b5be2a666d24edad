"""Answers of the Gemini API: parts that are joined, and replacements of parts."""

import functools
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sessiond.v1.turn_pb2 import Usage
from sessiond_server.providers.gemini import Gemini

from ..support import model_server as model_server_module
from ..support.model_server import ModelServer, Reply, fails
from ..support.strict_models.server import StrictModelServer
from .asking import Heard, gemini, hear, question


@pytest.fixture
async def provider(model_server: ModelServer) -> AsyncIterator[Gemini]:
    made = Gemini(
        "g", base_url=model_server.url, api_key="AIza-a-key", silence_timeout_s=30, retries=0
    )
    yield made
    await made.close()


def chunk(*parts: dict[str, Any], reason: str = "", **fields: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}}
    if reason:
        candidate["finishReason"] = reason
    return {"candidates": [candidate], "modelVersion": "m-1", **fields}


async def asks(provider: Gemini, server: ModelServer, *events: dict[str, Any]) -> Heard:
    server.script(Reply(events=events))
    return await hear(provider, question())


async def test_texts_are_joined_and_signed_parts_stay(
    provider: Gemini, model_server: ModelServer
) -> None:
    call = {"functionCall": {"name": "f", "args": {"x": 1.0}}, "thoughtSignature": "c2ln"}
    heard = await asks(
        provider,
        model_server,
        chunk({"text": "Let ", "thought": True}),
        chunk({"text": "me.", "thought": True}, {"text": "On"}),
        chunk({"text": "e."}),
        chunk({"text": ""}),
        chunk(call, {"text": "Tw"}),
        chunk({"text": "o.", "thoughtSignature": "c2ln"}),
        chunk({"text": "Three.", "unknown": {"of": "tomorrow"}}, reason="STOP"),
    )
    assert heard.message == {
        "role": "model",
        "parts": [
            {"text": "Let me.", "thought": True},
            {"text": "One."},
            call,
            {"text": "Tw"},
            {"text": "o.", "thoughtSignature": "c2ln"},
            {"text": "Three.", "unknown": {"of": "tomorrow"}},
        ],
    }
    assert (heard.thinking, heard.text) == ("Let me.", "One.Two.Three.")
    assert '"args":{"x":1.0}' in heard.answer.messages[0]


async def test_usage_in_full(provider: Gemini, model_server: ModelServer) -> None:
    usage = {
        "promptTokenCount": 100,
        "toolUsePromptTokenCount": 10,
        "candidatesTokenCount": 50,
        "thoughtsTokenCount": 30,
        "cachedContentTokenCount": 80,
    }
    heard = await asks(
        provider, model_server, chunk({"text": "x"}, reason="STOP", usageMetadata=usage)
    )
    assert heard.answer.usage == Usage(
        input_tokens=110, output_tokens=80, cached_input_tokens=80, reasoning_tokens=30
    )
    assert (heard.answer.model, heard.answer.stop_reason) == ("m-1", "STOP")


@pytest.mark.parametrize(
    "event",
    [
        chunk(reason="SAFETY"),
        {"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]},
        chunk({"text": "Hm.", "thought": True}, reason="MAX_TOKENS"),
    ],
)
async def test_an_answer_without_content(
    provider: Gemini, model_server: ModelServer, event: dict[str, Any]
) -> None:
    fault = (await asks(provider, model_server, event)).refusal
    assert fault.reason == "MODEL_ANSWER_INVALID"
    assert event["candidates"][0]["finishReason"] in fault.message


async def test_a_prompt_that_is_blocked(provider: Gemini, model_server: ModelServer) -> None:
    event = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}
    fault = (await asks(provider, model_server, event)).refusal
    assert fault.reason == "MODEL_REQUEST_REJECTED"
    assert "PROHIBITED_CONTENT" in fault.message


async def test_arguments_that_are_nested_too_deeply(
    provider: Gemini, model_server: ModelServer
) -> None:
    deep: Any = 1
    for _ in range(300):
        deep = {"a": deep}
    part = {"functionCall": {"name": "f", "args": deep}}
    heard = await asks(provider, model_server, chunk(part, reason="STOP"))
    (called,) = heard.message["parts"]
    assert json.loads(called["functionCall"]["args"]["arguments"]) == deep


async def test_line_separators_in_a_text(
    provider: Gemini, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "a\u2028b\u2029c\x85d"
    dumps = functools.partial(json.dumps, ensure_ascii=False)
    monkeypatch.setattr(model_server_module.json, "dumps", dumps)
    model_server.script(Reply(events=[chunk({"text": text}, reason="STOP")]))
    assert (await hear(provider, question())).text == text


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            {
                "code": 400,
                "message": "API key not valid.",
                "status": "INVALID_ARGUMENT",
                "details": [{"reason": "API_KEY_INVALID"}],
            },
            "MODEL_ACCESS_DENIED",
        ),
        ({"code": 404, "message": "No such model."}, "MODEL_REQUEST_REJECTED"),
        ({"code": 503, "message": "Overloaded.", "status": "UNAVAILABLE"}, "MODEL_UNAVAILABLE"),
    ],
)
@pytest.mark.parametrize("is_list", [False, True])
async def test_errors(
    provider: Gemini,
    model_server: ModelServer,
    error: dict[str, Any],
    reason: str,
    *,
    is_list: bool,
) -> None:
    body: Any = {"error": error}
    model_server.script(Reply(status=error["code"], body=[body] if is_list else body))
    fault = (await hear(provider, question())).refusal
    assert fault.reason == reason
    assert fault.metadata["http_status"] in (error["code"], 503)
    assert error["message"] in fault.message


async def test_when_to_come_back(provider: Gemini, model_server: ModelServer) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}]
    model_server.script(fails(429, code=429, details=details))
    assert (await hear(provider, question())).refusal.retry_after_s == 34.5


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-3-pro", "models/gemini-3-pro"),
        ("models/gemini-3-pro", "models/gemini-3-pro"),
        ("tunedModels/mine", "tunedModels/mine"),
        ("../files/x?y", "models/..%2Ffiles%2Fx%3Fy"),
    ],
)
async def test_the_name_of_a_model_stays_one(
    provider: Gemini, model_server: ModelServer, model: str, path: str
) -> None:
    await hear(provider, question(model=model))
    assert model_server.requests[0].path == f"/v1beta/{path}:streamGenerateContent?alt=sse"


async def test_a_loop_of_tools_with_signatures() -> None:
    with StrictModelServer() as server:
        provider = Gemini("g", base_url=server.url, api_key="k", silence_timeout_s=30, retries=0)
        server.script(Reply("Wait.", thinking="Hm.", tool_calls=[("", "f", '{"a": 1}')] * 2))
        history = gemini({"role": "user", "parts": [{"text": "Go."}]})
        heard = await hear(provider, question(history, model="gemini-3-pro"))
        answer = gemini(heard.message)
        answer[0].json = heard.answer.messages[0]
        result = {"functionResponse": {"name": "f", "response": {"output": 42}}}
        history += [*answer, *gemini({"role": "user", "parts": [result, result]})]
        assert (await hear(provider, question(history, model="gemini-3-pro"))).answer
        assert server.refusals == server.differences == []
        await provider.close()
