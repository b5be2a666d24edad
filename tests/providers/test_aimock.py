"""Providers of both protocols call aimock, a model server by other authors."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from sessiond_server.providers import retries
from sessiond_server.providers.base import Provider
from sessiond_server.providers.routing import Models
from sessiond_server.providers.settings import ProviderSettings

from .asking import anthropic, hear, openai, question


@pytest.fixture
async def models(aimock: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Models]:
    monkeypatch.setattr(retries, "BACKOFF_S", 0.001)
    environment = {
        "OPENAI_API_KEY": "sk-test",
        "OPENAI_BASE_URL": f"{aimock.url}/v1",
        "ANTHROPIC_API_KEY": "sk-ant-test",
        "ANTHROPIC_BASE_URL": aimock.url,
    }
    made = Models({"openai": ProviderSettings(silence_timeout_s=30)}, environment=environment)
    yield made
    await made.close()


@pytest.fixture(params=["gpt-5", "claude-sonnet-4"])
def asked(request: pytest.FixtureRequest, models: Models) -> tuple[Provider, str]:
    route = models.route(request.param)
    return route.provider, route.model


async def test_text(aimock: Any, asked: tuple[Provider, str]) -> None:
    provider, model = asked
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "input_tokens": 11, "output_tokens": 7}
    aimock.on_message(
        "weather", {"content": "It rains in 北京, as ever ☔.", "usage": usage}, chunkSize=5
    )
    heard = await hear(provider, question("What is the weather?", model=model))
    assert heard.text == "It rains in 北京, as ever ☔."
    assert len(heard.deltas) > 2
    assert heard.answer.stop_reason in ("stop", "end_turn")
    assert heard.answer.usage
    assert (heard.answer.usage.input_tokens, heard.answer.usage.output_tokens) == (11, 7)


async def test_a_tool_is_called_and_answers(aimock: Any, asked: tuple[Provider, str]) -> None:
    provider, model = asked
    is_openai = provider.name == "openai"
    call = {"id": "call_7", "name": "find_order", "arguments": '{"id":"12-A"}'}
    aimock.on_message("order", {"toolCalls": [call]}, hasToolResult=False)
    aimock.on_message("order", {"content": "It was sent."}, hasToolResult=True)
    first = openai({"role": "user", "content": "Where is my order?"})
    message = (await hear(provider, question(first, model=model))).message
    if is_openai:
        (called,) = message["tool_calls"]
        assert called["function"] == {"name": "find_order", "arguments": '{"id":"12-A"}'}
    else:
        (called,) = (block for block in message["content"] if block["type"] == "tool_use")
        assert (called["name"], called["input"]) == ("find_order", {"id": "12-A"})
    result = openai({"role": "tool", "tool_call_id": called["id"], "content": "sent"})
    second = [*first, *(openai if is_openai else anthropic)(message), *result]
    assert (await hear(provider, question(second, model=model))).text == "It was sent."


async def test_thinking(aimock: Any, asked: tuple[Provider, str]) -> None:
    provider, model = asked
    aimock.on_message(
        "think",
        {"content": "42.", "reasoning": "Six times seven.", "reasoningSignature": "c2lnbmF0dXJl"},
    )
    heard = await hear(provider, question("think", model=model))
    assert (heard.thinking, heard.text) == ("Six times seven.", "42.")
    if provider.name == "anthropic":
        assert heard.message["content"][0] == {
            "type": "thinking",
            "thinking": "Six times seven.",
            "signature": "c2lnbmF0dXJl",
        }


async def test_an_error_passes_once(aimock: Any, asked: tuple[Provider, str]) -> None:
    provider, model = asked
    aimock.on_message("Hello", {"content": "Hello."})
    aimock.next_error(500, {"error": {"message": "Boom", "type": "server_error"}})
    assert (await hear(provider, question("Hello", model=model))).text == "Hello."


@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, "MODEL_ACCESS_DENIED"), (400, "MODEL_REQUEST_REJECTED"), (429, "MODEL_RATE_LIMITED")],
)
async def test_an_error_that_stays(
    aimock: Any, asked: tuple[Provider, str], status: int, reason: str
) -> None:
    provider, model = asked
    aimock.on_message(
        "Hello",
        {
            "error": {"message": "Not today", "type": "some_error"},
            "status": status,
            "retryAfter": 20,
        },
    )
    fault = (await hear(provider, question("Hello", model=model))).refusal
    assert (fault.reason, fault.metadata["http_status"]) == (reason, status)
    assert "Not today" in fault.message
    assert fault.retry_after_s == (20 if status == 429 else None)


async def test_a_stream_that_is_cut(aimock: Any, asked: tuple[Provider, str]) -> None:
    provider, model = asked
    aimock.on_message(
        "Hello",
        {"content": "One two three four five six."},
        chunkSize=4,
        truncateAfterChunks=5,
        latency=5,
    )
    heard = await hear(provider, question("Hello", model=model))
    assert heard.refusal.reason == "MODEL_UNAVAILABLE"
    assert heard.text
