"""Providers against servers that refuse requests as the real ones do."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sessiond.v1.message_pb2 import Message
from sessiond_server.providers.routing import Models
from sessiond_server.providers.settings import ProviderSettings

from ..support.model_server import Reply
from ..support.strict_models.server import StrictModelServer
from .asking import anthropic, gemini, hear, openai, question

PROVIDERS: dict[str, Callable[[StrictModelServer], ProviderSettings]] = {
    "openai": lambda server: ProviderSettings(
        type="openai", base_url=server.openai_url, is_openai=True
    ),
    "groq": lambda server: ProviderSettings(type="openai", base_url=server.groq_url),
    "deepseek": lambda server: ProviderSettings(
        type="openai", base_url=server.deepseek_url, reasoning_key="reasoning_content"
    ),
    "responses": lambda server: ProviderSettings(
        type="openai-responses", base_url=server.openai_url
    ),
    "anthropic": lambda server: ProviderSettings(type="anthropic", base_url=server.url),
    "gemini": lambda server: ProviderSettings(type="gemini", base_url=server.url),
}
CALL = {"id": "s:0", "type": "function", "function": {"name": "f.x", "arguments": '{"a": 1}'}}
HISTORY: list[Message] = [
    *openai(
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "q", "name": "a b"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [CALL],
            "refusal": None,
            "audio": None,
        },
        {"role": "tool", "tool_call_id": "s:0", "content": [{"type": "text", "text": "r"}]},
        {"role": "assistant", "content": "a", "reasoning_content": "Hm.", "tool_calls": []},
    ),
    *anthropic(
        {"role": "user", "content": [{"type": "text", "text": " "}], "key": 1},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "\n\n"},
                {"type": "tool_use", "id": "t", "name": "g", "input": {}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]},
    ),
    *gemini(
        {"role": "model", "parts": [{"function_call": {"name": "h", "args": {}}}]},
        {"role": "user", "parts": [{"text": "Never mind."}]},
    ),
]


@pytest.fixture
def server() -> Iterator[StrictModelServer]:
    with StrictModelServer() as running:
        yield running


@pytest.mark.parametrize("kind", PROVIDERS)
async def test_a_mixed_history_is_accepted_and_so_is_the_answer(
    server: StrictModelServer, kind: str
) -> None:
    models = Models({"it": PROVIDERS[kind](server)}, environment={})
    route = models.route("it/some-model")
    server.script(Reply("Wait.", thinking="Hm.", tool_calls=[("c1", "f", "{}"), ("c2", "f", "{}")]))
    history = list(HISTORY)
    for _ in range(2):
        heard = await hear(
            route.provider, question(history, model=route.model, system_prompt="Answer.")
        )
        assert heard.answer
        for item, text in zip(heard.items, heard.answer.messages, strict=True):
            message = {"gemini": gemini, "anthropic": anthropic}.get(kind, openai)(item)[0]
            message.json = text
            history.append(message)
    assert server.refusals == server.differences == []
    await models.close()


@pytest.mark.parametrize(
    ("setting", "message", "sent"),
    [
        ({}, {"role": "assistant", "content": "a", "new": 1}, {"content": "a"}),
        (
            {"unknown_keys": "keep"},
            {"role": "assistant", "content": "a", "new": 1},
            {"content": "a", "new": 1},
        ),
        ({}, {"role": "assistant", "content": "a", "reasoning": "r"}, {"content": "a"}),
        (
            {"reasoning_key": "reasoning_content"},
            {"role": "assistant", "content": "a", "reasoning": "r"},
            {"content": "a", "reasoning_content": "r"},
        ),
    ],
)
async def test_settings_of_a_compatible_server(
    server: StrictModelServer,
    setting: dict[str, Any],
    message: dict[str, Any],
    sent: dict[str, Any],
) -> None:
    settings = ProviderSettings.model_validate(
        {"type": "openai", "base_url": server.openai_url, **setting}
    )
    models = Models({"it": settings}, environment={})
    user = {"role": "user", "content": "q"}
    await hear(models.route("it/m").provider, question(openai(user, message, user)))
    assert server.exchanges[0].body["messages"][1] == {"role": "assistant", **sent}
    await models.close()


async def test_a_server_that_takes_short_ids_and_no_files(server: StrictModelServer) -> None:
    settings = ProviderSettings(
        type="openai", base_url=server.openai_url, id_length=13, files=False
    )
    models = Models({"it": settings}, environment={})
    called = {**CALL, "id": "call_of_more_than_13_characters"}
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    history = openai(
        {"role": "user", "content": [image]},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": called["id"], "content": "r"},
    )
    assert (await hear(models.route("it/m").provider, question(history))).answer
    user, assistant, tool = server.exchanges[0].body["messages"]
    assert "image_url" not in str(user)
    assert len(tool["tool_call_id"]) <= 13
    assert assistant["tool_calls"][0]["id"] == tool["tool_call_id"]
    await models.close()
