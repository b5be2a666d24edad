"""Answers of OpenAI's Responses API: several items, each a message of its own."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sessiond.v1.turn_pb2 import Usage
from sessiond_server.providers.openai_responses import OpenAIResponses

from ..support.model_server import ModelServer, Reply, fails
from ..support.strict_models.server import StrictModelServer
from .asking import Heard, hear, openai, question

ITEM: dict[str, Any] = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Hi.", "annotations": []}],
}


@pytest.fixture
async def provider(model_server: ModelServer) -> AsyncIterator[OpenAIResponses]:
    made = OpenAIResponses(
        "r", base_url=model_server.openai_url, api_key="k", silence_timeout_s=30, retries=0
    )
    yield made
    await made.close()


def ends(kind: str = "response.completed", **response: Any) -> dict[str, Any]:
    return {"type": kind, "response": {"model": "m-1", "status": "completed", **response}}


async def asks(provider: OpenAIResponses, server: ModelServer, *events: dict[str, Any]) -> Heard:
    server.script(Reply(events=events))
    return await hear(provider, question())


async def test_deltas_of_all_kinds(provider: OpenAIResponses, model_server: ModelServer) -> None:
    heard = await asks(
        provider,
        model_server,
        {"type": "response.created", "response": {"model": "m-0"}},
        {"type": "response.reasoning_summary_part.added", "summary_index": 0},
        {"type": "response.reasoning_summary_text.delta", "delta": "First."},
        {"type": "response.reasoning_summary_part.added", "summary_index": 1},
        {"type": "response.reasoning_summary_text.delta", "delta": "Second."},
        {"type": "response.reasoning_text.delta", "delta": " Third."},
        {"type": "response.output_text.delta", "delta": "Hi."},
        {"type": "response.refusal.delta", "delta": " No."},
        {"type": "response.something.new", "delta": 3},
        ends(output=[ITEM]),
    )
    assert heard.thinking == "First.\n\nSecond. Third."
    assert heard.text == "Hi. No."
    assert heard.message == ITEM
    assert heard.answer.model == "m-1"


async def test_usage_in_full(provider: OpenAIResponses, model_server: ModelServer) -> None:
    usage = {
        "input_tokens": 100,
        "output_tokens": 50,
        "input_tokens_details": {"cached_tokens": 80},
        "output_tokens_details": {"reasoning_tokens": 30},
    }
    heard = await asks(provider, model_server, ends(output=[ITEM], usage=usage))
    assert heard.answer.usage == Usage(
        input_tokens=100, output_tokens=50, cached_input_tokens=80, reasoning_tokens=30
    )


async def test_items_that_the_end_does_not_repeat(
    provider: OpenAIResponses, model_server: ModelServer
) -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": ""}
    heard = await asks(
        provider,
        model_server,
        {"type": "response.output_item.added", "output_index": 1, "item": call},
        {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": '{"a"'},
        {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": ":1}"},
        {"type": "response.output_item.done", "output_index": 0, "item": ITEM},
        ends(output=[]),
    )
    assert heard.items == [ITEM, {**call, "arguments": '{"a":1}'}]


async def test_an_answer_that_was_cut(provider: OpenAIResponses, model_server: ModelServer) -> None:
    cut = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    heard = await asks(provider, model_server, ends("response.incomplete", output=[ITEM], **cut))
    assert (heard.message, heard.answer.stop_reason) == (ITEM, "max_output_tokens")
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": []}
    heard = await asks(
        provider, model_server, ends("response.incomplete", output=[reasoning], **cut)
    )
    assert heard.refusal.reason == "MODEL_ANSWER_INVALID"
    assert "max_output_tokens" in heard.refusal.message


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (
            ends("response.failed", error={"code": "rate_limit_exceeded", "message": "Slow down"}),
            "MODEL_RATE_LIMITED",
        ),
        (
            ends("response.failed", error={"code": "server_error", "message": "Slow down"}),
            "MODEL_UNAVAILABLE",
        ),
        (
            ends("response.failed", error={"code": "invalid_prompt", "message": "Slow down"}),
            "MODEL_REQUEST_REJECTED",
        ),
        ({"type": "error", "code": None, "message": "Slow down"}, "MODEL_UNAVAILABLE"),
        (
            {"type": "error", "code": "rate_limit_exceeded", "message": "Slow down", "param": None},
            "MODEL_RATE_LIMITED",
        ),
    ],
)
async def test_errors(
    provider: OpenAIResponses, model_server: ModelServer, event: dict[str, Any], reason: str
) -> None:
    fault = (await asks(provider, model_server, event)).refusal
    assert fault.reason == reason
    assert "Slow down" in fault.message


class TestFields:
    """The fields of a request other than its input."""

    async def test_a_model_without_reasoning(
        self, provider: OpenAIResponses, model_server: ModelServer
    ) -> None:
        model_server.script(fails(400, "Encrypted content is not supported with this model."))
        assert (await hear(provider, question(model="plain"))).answer
        assert (await hear(provider, question(model="plain"))).answer
        assert (await hear(provider, question(model="other"))).answer
        assert ["include" in received.body for received in model_server.requests] == [
            True,
            False,
            False,
            True,
        ]

    async def test_a_refusal_of_another_cause_is_not_taken_for_one(
        self, provider: OpenAIResponses, model_server: ModelServer
    ) -> None:
        model_server.script(fails(400, "The encrypted content for item rs_1 could not be verified"))
        assert (await hear(provider, question())).refusal
        assert (await hear(provider, question())).answer
        assert ["include" in received.body for received in model_server.requests] == [True, True]

    async def test_the_callers_own(
        self, provider: OpenAIResponses, model_server: ModelServer
    ) -> None:
        own: dict[str, Any] = {"store": True, "include": [], "previous_response_id": "resp_1"}
        assert (await hear(provider, question(**own))).answer
        body = model_server.requests[0].body
        assert {key: body[key] for key in own} == own


async def test_a_loop_of_tools_with_reasoning() -> None:
    with StrictModelServer() as server:
        provider = OpenAIResponses(
            "r", base_url=server.openai_url, api_key="k", silence_timeout_s=30, retries=0
        )
        server.script(Reply("One moment.", thinking="Hm.", tool_calls=[("c", "f", '{"a": 1}')]))
        history = openai({"role": "user", "content": "Go."})
        heard = await hear(provider, question(history))
        assert [item["type"] for item in heard.items] == ["reasoning", "message", "function_call"]
        history += openai(*heard.items)
        for message, text in zip(history[1:], heard.answer.messages, strict=True):
            message.json = text
        history += openai({"type": "function_call_output", "call_id": "c", "output": "42"})
        assert (await hear(provider, question(history))).answer
        assert server.refusals == server.differences == []
        assert server.exchanges[1].body["input"] == [json.loads(m.json) for m in history]
        await provider.close()
