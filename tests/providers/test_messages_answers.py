"""Answers of Anthropic's Messages API as the real API streams them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sessiond_server.dialects.anthropic import AnthropicDialect
from sessiond_server.providers.anthropic_messages import AnthropicMessages

from ..support.model_server import ModelServer, Reply
from ..support.strict_models.server import StrictModelServer
from .asking import anthropic, hear, openai, question


@pytest.fixture
async def provider(model_server: ModelServer) -> AsyncIterator[AnthropicMessages]:
    made = AnthropicMessages(
        "a", base_url=model_server.url, api_key="sk-a-key", silence_timeout_s=30, retries=0
    )
    yield made
    await made.close()


def events(*blocks: dict[str, Any], stop_reason: str = "end_turn") -> Reply:
    """Return a reply of whole blocks. A tool_use block may have its input as text in "json"."""
    made: list[dict[str, Any]] = [{"type": "message_start", "message": {"model": "m-1"}}]
    for index, block in enumerate(blocks):
        text = block.pop("json", None)
        made.append({"type": "content_block_start", "index": index, "content_block": block})
        if text is not None:
            delta = {"type": "input_json_delta", "partial_json": text}
            made.append({"type": "content_block_delta", "index": index, "delta": delta})
    made.append({"type": "message_delta", "delta": {"stop_reason": stop_reason}})
    return Reply(events=[*made, {"type": "message_stop"}])


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


def call(arguments: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": "t", "name": "f", "input": {}, "json": arguments}


async def test_a_blank_text_beside_a_call_is_left_out(
    provider: AnthropicMessages, model_server: ModelServer
) -> None:
    model_server.script(events(text("\n\n"), call("{}"), text(""), stop_reason="tool_use"))
    heard = await hear(provider, question())
    assert [block["type"] for block in heard.message["content"]] == ["tool_use"]


async def test_a_blank_text_alone_is_kept(
    provider: AnthropicMessages, model_server: ModelServer
) -> None:
    model_server.script(events(text("\n\n")))
    assert (await hear(provider, question())).message["content"] == [text("\n\n")]


async def test_a_turn_that_pauses(provider: AnthropicMessages, model_server: ModelServer) -> None:
    used = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    model_server.script(
        events(text("Wait."), {**used, "json": '{"query": "x"}'}, stop_reason="pause_turn")
    )
    heard = await hear(provider, question())
    assert heard.answer.stop_reason == "pause_turn"
    assert heard.message["content"] == [text("Wait."), {**used, "input": {"query": "x"}}]


@pytest.mark.parametrize("levels", [150, 300, 100_000])
async def test_an_input_that_is_nested_deeply(
    provider: AnthropicMessages, model_server: ModelServer, levels: int
) -> None:
    arguments = '{"a":' * levels + "1" + "}" * levels
    model_server.script(events(call(arguments), stop_reason="tool_use"))
    (block,) = (await hear(provider, question())).message["content"]
    if levels == 150:
        assert json.dumps(block["input"], separators=(",", ":")) == arguments
    else:
        assert block["input"] == {"arguments": arguments}


async def test_an_input_that_was_cut(
    provider: AnthropicMessages, model_server: ModelServer
) -> None:
    model_server.script(events(call('{"a": "b'), stop_reason="max_tokens"))
    fault = (await hear(provider, question())).refusal
    assert fault.reason == "MODEL_ANSWER_INVALID"
    assert "max_tokens" in fault.message


@pytest.mark.parametrize("inline_system", [False, True])
async def test_instructions_in_mid_history(*, inline_system: bool) -> None:
    history = [
        *openai({"role": "user", "content": "Hi"}, {"role": "system", "content": "Be brief."}),
        *openai({"role": "assistant", "content": "Hi."}),
        *anthropic({"role": "user", "content": "Who are you?"}),
    ]
    with StrictModelServer() as server:
        provider = AnthropicMessages(
            "a",
            base_url=server.url,
            api_key="sk-a-key",
            silence_timeout_s=30,
            retries=0,
            dialect=AnthropicDialect(inline_system=inline_system),
        )
        await hear(provider, question(history))
        await provider.close()
        roles = [message["role"] for message in server.exchanges[0].body["messages"]]
        assert ("system" in roles) is inline_system
        assert not server.refusals
