"""The strict server speaks each protocol: the providers' own SDKs understand it."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from anthropic import AsyncAnthropic
from anthropic import BadRequestError as AnthropicBadRequest
from openai import AsyncOpenAI, BadRequestError

from ..support.model_server import Reply, fails
from ..support.strict_models.cache import PromptCache
from ..support.strict_models.server import StrictModelServer

U: dict[str, Any] = {"role": "user", "content": "q"}
REPLY = Reply("It is so.", thinking="Is it so?", tool_calls=[("c_1", "f", '{"a": [1, 2]}')])


@pytest.fixture
def server() -> Iterator[StrictModelServer]:
    with StrictModelServer() as running:
        yield running


def openai(url: str) -> AsyncOpenAI:
    return AsyncOpenAI(api_key="k", base_url=url, max_retries=0)


@pytest.mark.parametrize("kind", ["openai", "groq", "deepseek"])
async def test_chat_completions(server: StrictModelServer, kind: str) -> None:
    server.script(REPLY)
    async with (
        openai(getattr(server, f"{kind}_url")) as client,
        client.chat.completions.stream(model="m", messages=[{"role": "user", "content": "q"}]) as s,
    ):
        message = (await s.get_final_completion()).choices[0].message
    assert message.content == "It is so."
    assert message.tool_calls
    assert message.tool_calls[0].function.arguments == '{"a": [1, 2]}'
    assert server.exchanges[0].api == kind
    assert server.refusals == server.differences == []


async def test_a_refusal_of_chat_completions(server: StrictModelServer) -> None:
    async with openai(server.openai_url) as client:
        with pytest.raises(BadRequestError, match="empty array") as caught:
            await client.chat.completions.create(model="m", messages=[], stream=True)
    assert caught.value.code == "empty_array"
    assert caught.value.param == "messages"
    assert len(server.refusals) == 1


async def test_responses(server: StrictModelServer) -> None:
    server.script(REPLY)
    items: list[Any] = [U]
    async with openai(server.openai_url) as client:
        async with client.responses.stream(model="m", input=items) as stream:
            response = await stream.get_final_response()
        assert response.output_text == "It is so."
        items += [item.model_dump(exclude_none=True) for item in response.output]
        items.append({"type": "function_call_output", "call_id": "c_1", "output": "r"})
        async with client.responses.stream(model="m", input=items) as stream:
            assert (await stream.get_final_response()).status == "completed"
        types = [item.get("type") for item in items[1:]]
        assert types == ["reasoning", "message", "function_call", "function_call_output"]
        with pytest.raises(BadRequestError, match="without its required 'reasoning' item"):
            await client.responses.create(
                model="m",
                input=[item for item in items if item.get("type") != "reasoning"],
                stream=True,
            )
        items[1]["encrypted_content"] += "A"
        with pytest.raises(BadRequestError, match="could not be verified"):
            await client.responses.create(model="m", input=items, stream=True)


async def test_messages(server: StrictModelServer) -> None:
    server.script(REPLY)
    messages: list[Any] = [U]
    async with AsyncAnthropic(api_key="k", base_url=server.url, max_retries=0) as client:
        async with client.messages.stream(model="m", max_tokens=9, messages=messages) as stream:
            message = await stream.get_final_message()
        assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
        content = [block.model_dump(exclude_none=True) for block in message.content]
        messages.append({"role": "assistant", "content": content})
        result = {"type": "tool_result", "tool_use_id": "c_1", "content": "r"}
        messages.append({"role": "user", "content": [result]})
        async with client.messages.stream(model="m", max_tokens=9, messages=messages) as stream:
            assert await stream.get_final_text() == "Hello from the model server."
        content[0]["thinking"] = "It is."
        with pytest.raises(AnthropicBadRequest, match="Invalid `signature` in `thinking` block"):
            await client.messages.create(model="m", max_tokens=9, messages=messages, stream=True)
    assert server.differences == []


async def stream_gemini(server: StrictModelServer, *contents: Any) -> list[dict[str, Any]]:
    """Return the parts of an answer of Gemini, or raise its refusal."""
    path = "/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse"
    async with httpx2.AsyncClient() as client:
        response = await client.post(server.url + path, json={"contents": contents})
    if response.status_code != 200:
        raise RuntimeError(response.json()["error"]["message"])
    lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line)["candidates"][0]["content"]["parts"][0] for line in lines]


async def test_gemini(server: StrictModelServer) -> None:
    user = {"role": "user", "parts": [{"text": 'call f {"a": 1}'}]}
    (call,) = await stream_gemini(server, user)
    assert call["functionCall"] == {"name": "f", "args": {"a": 1}}
    response = {"functionResponse": {"name": "f", "response": {"r": 1}}}
    contents = [user, {"role": "model", "parts": [call]}, {"role": "user", "parts": [response]}]
    *words, signed = await stream_gemini(server, *contents)
    assert "".join(word["text"] for word in words) == "Hello from the model server."
    assert signed == {"text": "", "thoughtSignature": call["thoughtSignature"]}
    del call["thoughtSignature"]
    with pytest.raises(RuntimeError, match="missing a thought_signature"):
        await stream_gemini(server, *contents)
    assert server.exchanges[0].model == "gemini-3-pro"


async def test_calls_on_demand(server: StrictModelServer) -> None:
    async with (
        AsyncAnthropic(api_key="k", base_url=server.url) as client,
        client.messages.stream(
            model="m", max_tokens=9, messages=[{"role": "user", "content": 'call f {"a": 1}'}]
        ) as stream,
    ):
        (block,) = (await stream.get_final_message()).content
    assert block.type == "tool_use"
    assert (block.id, block.name, block.input) == ("toolu_1", "f", {"a": 1})


async def test_differences_from_the_sdk_are_recorded(server: StrictModelServer) -> None:
    async with httpx2.AsyncClient() as client:
        body = {"model": "m", "stream": True, "messages": [U], "temperature": "0"}
        response = await client.post(f"{server.openai_url}/chat/completions", json=body)
    assert response.status_code == 200
    (line,) = server.differences
    assert line.endswith("temperature: Input should be a valid number")


async def test_errors_and_limits() -> None:
    with StrictModelServer(max_bytes=100) as server:
        server.script(fails(429, "Slow down."))
        async with httpx2.AsyncClient() as client:
            url = f"{server.openai_url}/chat/completions"
            body: dict[str, Any] = {"model": "m", "stream": True, "messages": [U]}
            assert (await client.post(url, json=body)).status_code == 429
            body["messages"] = [U] * 10
            assert (await client.post(url, json=body)).status_code == 413
            assert (await client.post(server.url + "/v2", json=body)).status_code == 404
    assert [exchange.number for exchange in server.exchanges] == [1, 2]


async def test_the_cache_counts_requests_that_were_taken(server: StrictModelServer) -> None:
    async with openai(server.openai_url) as client:
        for count in (1, 2, 1):
            messages: list[Any] = [U] * count
            await client.chat.completions.create(
                model="m", messages=messages, stream=True, user="ann"
            )
    assert [use.messages for use in server.cache.uses] == [0, 1, 1]
    assert server.cache.breaks("ann") == 1


class TestPromptCache:
    def test_a_growing_conversation_extends_its_prefix(self) -> None:
        cache = PromptCache()
        for count in range(1, 5):
            use = cache.add("openai", "c", {"tools": [], "messages": [U] * count})
            assert (use.messages, use.total_messages) == (count - 1, count)
        assert use.bytes < use.total_bytes
        assert cache.breaks("c") == 0

    def test_a_window_that_slides_breaks_the_prefix_each_time(self) -> None:
        cache = PromptCache()
        messages = [{"role": "user", "content": str(i)} for i in range(9)]
        for start in range(5):
            cache.add("openai", "", {"messages": messages[start : start + 4]})
        assert cache.breaks() == 4
        assert [use.messages for use in cache.uses] == [0] * 5

    @pytest.mark.parametrize(
        ("api", "head", "messages"),
        [
            ("openai", "tools", "messages"),
            ("responses", "instructions", "input"),
            ("anthropic", "system", "messages"),
            ("gemini", "systemInstruction", "contents"),
        ],
    )
    def test_what_stands_before_the_messages_counts(
        self, api: Any, head: str, messages: str
    ) -> None:
        cache = PromptCache()
        cache.add(api, "", {head: "a", messages: [U]})
        assert cache.add(api, "", {head: "a", messages: [U, U]}).extends
        assert cache.add(api, "", {head: "b", messages: [U, U, U]}).messages == 0
        assert cache.breaks() == 1

    def test_conversations_share_nothing(self) -> None:
        cache = PromptCache()
        cache.add("openai", "a", {"messages": [U]})
        use = cache.add("openai", "b", {"messages": [U]})
        assert (use.messages, use.extends) == (0, True)

    def test_the_order_of_keys_counts(self) -> None:
        cache = PromptCache()
        cache.add("openai", "", {"messages": [{"role": "user", "content": "q"}]})
        cache.add("openai", "", {"messages": [{"content": "q", "role": "user"}]})
        assert cache.breaks() == 1
