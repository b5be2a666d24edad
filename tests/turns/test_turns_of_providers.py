"""Turns with each provider: their requests, and the stored answers."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from sessiond.v1.asset_service_pb2 import Asset
from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_GEMINI,
    FORMAT_OPENAI,
    ROLE_USER,
    Blob,
    Message,
    Part,
    Parts,
)
from sessiond.v1.turn_pb2 import TURN_STATE_COMPLETED
from sessiond_server.providers.settings import ProviderSettings
from sessiond_server.settings import Settings

from ..assets.helpers import upload
from ..support.model_server import ModelServer, Reply, fails
from ..support.turns import send, sending
from ..support.wire import Wire
from .calls import connected

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 5_000


@pytest.fixture
def settings(settings: Settings, models: ModelServer) -> Settings:
    """Settings with the models resp-* of OpenAI's Responses and gem-* of Gemini in addition."""
    providers = {
        "resp": ProviderSettings(
            type="openai-responses", base_url=models.openai_url, models=("resp-*",), retries=0
        ),
        "gem": ProviderSettings(
            type="gemini", base_url=models.url, models=("gem-*",), api_key_env="", retries=0
        ),
    }
    return settings.model_copy(update={"providers": {**settings.providers, **providers}})


def image(asset_id: str) -> Message:
    return Message(role=ROLE_USER, parts=Parts(parts=[Part(image=Blob(asset_id=asset_id))]))


async def test_an_answer_of_several_items_is_stored_as_several_messages(
    one: Wire, models: ModelServer
) -> None:
    models.script(Reply("Wait.", thinking="Hm.", tool_calls=[("c", "f", "{}")], usage=(12, 5)))
    sent = await sending(one, "one", "hi", model="resp-1")
    turn = await sent.end()
    assert (turn.state, turn.last_seq) == (TURN_STATE_COMPLETED, 4)
    _, *answer = await one.read("one")
    assert [json.loads(message.json)["type"] for message in answer] == [
        "reasoning",
        "message",
        "function_call",
    ]
    assert {message.format for message in answer} == {FORMAT_OPENAI}
    assert {message.turn.turn_id for message in answer} == {turn.turn_id}
    # The sum over the messages equals the usage of the turn.
    assert [message.turn.usage.input_tokens for message in answer] == [0, 0, 12]
    assert sent.types.count("assistant.message") == 3
    result = Message(
        format=FORMAT_OPENAI,
        json='{"type":"function_call_output","call_id":"c","output":"r"}',
    )
    assert (await send(one, "one", model="resp-1", messages=[result])).state == TURN_STATE_COMPLETED
    sent_items = models.requests[1].body["input"]
    assert sent_items[1:4] == [json.loads(message.json) for message in answer]


async def test_an_answer_of_gemini(one: Wire, models: ModelServer) -> None:
    models.script(Reply("Hi."))
    await send(one, "one", "hi", model="gem-1")
    _, answer = await one.read("one")
    assert answer.format == FORMAT_GEMINI
    assert json.loads(answer.json)["parts"][0] == {"text": "Hi."}


@pytest.mark.parametrize("media_type", ["", "application/octet-stream", "image/png"])
async def test_an_asset_of_unknown_type_is_known_by_its_first_bytes(
    one: Wire, models: ModelServer, media_type: str
) -> None:
    asset: Asset = await upload(one, PNG, media_type=media_type)
    await send(one, "one", messages=[image(asset.asset_id)])
    (part,) = models.requests[0].body["messages"][0]["content"]
    assert part["image_url"]["url"] == "data:image/png;base64," + base64.b64encode(PNG).decode()


@pytest.mark.parametrize("stored", ["image/jpeg", "image/JPG", "application/pdf"])
async def test_an_asset_that_was_uploaded_under_a_wrong_type_is_sent_under_its_own(
    one: Wire, models: ModelServer, query: Callable[..., Any], stored: str
) -> None:
    asset: Asset = await upload(one, PNG, media_type="image/png")
    # Earlier versions stored the caller's media type.
    query(f"UPDATE assets SET media_type = '{stored}'")
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    for _ in range(2):  # in the second round, the asset's first bytes are cached
        await send(one, "one", messages=[image(asset.asset_id)])
        parts = models.requests[-1].body["messages"][-1]["content"]
        assert [part["image_url"]["url"] for part in parts] == [url]
    block = {
        "type": "image",
        "source": {
            "type": "base64",
            "media_type": "image/jpeg",
            "data": f"sessiond-asset:{asset.asset_id}",
        },
    }
    text = json.dumps({"role": "user", "content": [block]})
    await send(one, "one", messages=[Message(format=FORMAT_ANTHROPIC, json=text)], model="other-1")
    sent = models.requests[-1].body["messages"][-1]["content"][-1]["source"]
    assert sent["media_type"] == "image/png"


async def test_a_request_that_is_too_large_fails_before_anything_is_loaded(
    settings: Settings, database_url: str, models: ModelServer
) -> None:
    small = settings.model_copy(update={"max_model_request_bytes": 20_000})
    async with connected(small, database_url) as wire:
        await wire.create("one")
        asset: Asset = await upload(wire, PNG, media_type="image/png")
        prompt: dict[str, Any] = {"messages": [image(asset.asset_id)]}
        for _ in range(2):
            await send(wire, "one", **prompt)
        error = await (await sending(wire, "one", **prompt)).error()
        assert error.reason == "CONTEXT_TOO_LARGE"
        assert error.metadata["max_bytes"] == "20000"
        assert int(error.metadata["context_bytes"]) > 20_000
        assert "attachments" in error.text
        assert len(models.requests) == 2


async def test_a_rejected_turn_names_the_seq(one: Wire, models: ModelServer) -> None:
    await send(one, "one", "first")
    models.script(fails(400, "Invalid 'messages[1].content'."))
    error = await (await sending(one, "one", "second")).error()
    assert (error.reason, error.metadata["seqs"]) == ("MODEL_REQUEST_REJECTED", "2")
    assert "message seq 2" in error.text
