"""Errors about a provider's refusal name the stored messages."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sessiond.v1.message_pb2 import Message
from sessiond_server.providers.base import ModelFault

from ..support.model_server import ModelServer, fails
from .asking import gemini, hear, openai, question
from .made import CLASSES, HISTORIES, Made

HISTORY: list[dict[str, Any]] = [
    {"role": "user", "content": "One"},
    {"role": "assistant", "content": "two", "parsed": {"x": 1}},
    {"role": "user", "content": "three"},
]


@pytest.fixture(params=[*CLASSES])
async def make(request: pytest.FixtureRequest, model_server: ModelServer) -> AsyncIterator[Made]:
    made = Made(request.param, model_server)
    yield made
    for provider in made.made:
        await provider.close()


async def refusal(
    make: Made,
    server: ModelServer,
    message: str,
    history: list[Message] | None = None,
    **error: Any,
) -> ModelFault:
    server.script(fails(400, message, **error))
    asked = question(history or openai(*HISTORY), system_prompt="Be brief.")
    return (await hear(make(), asked)).refusal


PLACES = {
    "openai": ["Invalid 'messages[2].content'", "messages.2: no", "[messages.[2].role] is wrong"],
    "openai-responses": ["Invalid 'input[1].content'", "input.1: no", "No: input[1]"],
    "anthropic": ["messages.1.content.0: no", "messages.1: text content blocks", "messages[1]"],
    "gemini": [
        "contents[1].parts must not be empty",
        "* GenerateContentRequest.contents[1].parts[0].data: no",
        "contents.1 no",
    ],
}


@pytest.mark.parametrize("number", range(3))
async def test_it_names_the_seq_and_what_to_do(
    make: Made, model_server: ModelServer, number: int
) -> None:
    message = PLACES[make.kind][number]
    fault = await refusal(make, model_server, message)
    assert fault.reason == "MODEL_REQUEST_REJECTED"
    assert fault.metadata["seqs"] == "2"
    for text in (message, "message seq 2", "rewind the session to seq 1", "copy it up to seq 1"):
        assert text in fault.message
    assert "field_removed (parsed)" in fault.message
    # The error of a turn is limited to 1,000 characters.
    assert len(fault.message) < 1_000


async def test_a_place_may_be_in_the_parameter(model_server: ModelServer) -> None:
    make = Made("openai", model_server)
    fault = await refusal(make, model_server, "No.", param="messages[3].content")
    assert fault.metadata["seqs"] == "3"
    await make.made[0].close()


async def test_several_messages(make: Made, model_server: ModelServer) -> None:
    name = {"openai-responses": "input", "gemini": "contents"}.get(make.kind, "messages")
    offset = 1 if make.kind == "openai" else 0
    fault = await refusal(make, model_server, f"{name}[{offset + 2}] follows {name}[{offset}]")
    assert fault.metadata["seqs"] == "1,3"
    assert "messages seq 1, 3" in fault.message
    assert "rewind the session to seq 0" not in fault.message


@pytest.mark.parametrize(
    "message", ["messages[0] input[99] contents[99]", "temperature is too hot", "messages"]
)
async def test_what_names_no_stored_message(model_server: ModelServer, message: str) -> None:
    make = Made("openai", model_server)
    fault = await refusal(make, model_server, message)
    assert "seqs" not in fault.metadata
    assert "rewind" not in fault.message
    # The cause may be a message that was changed for the request, so the error lists the changes.
    assert "[changed for the request: seq 2: field_removed (parsed)]" in fault.message
    await make.made[0].close()


async def test_merged_messages_are_all_named(model_server: ModelServer) -> None:
    make = Made("gemini", model_server)
    parts = [{"role": "user", "parts": [{"text": text}]} for text in ("One", "two", "three")]
    fault = await refusal(make, model_server, "contents[0] is wrong", gemini(*parts))
    assert fault.metadata["seqs"] == "1,2,3"
    await make.made[0].close()


async def test_a_history_of_which_nothing_can_be_sent(
    make: Made, model_server: ModelServer
) -> None:
    items: list[dict[str, Any]] = [
        {"type": "compaction", "id": "cmp_1", "encrypted_content": "secret"},
        {"role": "user", "content": "Go on."},
    ]
    heard = await hear(make(), question(openai(*items)))
    if make.kind == "openai-responses":
        # This API made the compaction, and accepts it.
        assert heard.answer
        return
    fault = heard.refusal
    assert fault.reason == "MODEL_REQUEST_REJECTED"
    assert fault.metadata["seqs"] == "1"
    assert "message 1" in fault.message
    assert model_server.requests == []


async def test_a_message_that_is_nested_too_deeply(make: Made, model_server: ModelServer) -> None:
    history = HISTORIES[make.kind]({"role": "user", "content": "x", "parts": []})
    history[0].json = '{"role":"user","content":[' + "[" * 100_000 + "]" * 100_000 + "]}"
    fault = (await hear(make(), question(history))).refusal
    assert fault.reason == "MODEL_REQUEST_REJECTED"
    assert "nested too deeply" in fault.message
    assert json.loads(json.dumps(fault.metadata)) == {"model": "m", "provider": make.kind}
