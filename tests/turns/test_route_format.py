"""Formats that the client lets the server choose, and options that it sends unchanged."""

import json
from collections.abc import Iterator

import pytest

from sessiond import AsyncClient
from sessiond.v1.conversation_service_pb2 import SendRequest
from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC, FORMAT_OPENAI, Message
from sessiond_server.providers.settings import ProviderSettings
from sessiond_server.server import Running
from sessiond_server.settings import Settings

from ..support.model_server import ModelServer
from ..support.turns import send
from ..support.wire import Wire


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def settings(settings: Settings, models: ModelServer) -> Settings:
    providers = {
        "one": ProviderSettings(type="openai", base_url=models.openai_url, models=("one-*",)),
        "other": ProviderSettings(
            type="anthropic", base_url=models.url, api_key_env="", models=("other-*",)
        ),
    }
    return settings.model_copy(update={"providers": providers, "turn_lease_s": 600})


@pytest.mark.parametrize(
    ("model", "format"), [("one-1", FORMAT_OPENAI), ("other-1", FORMAT_ANTHROPIC)]
)
async def test_json_without_a_format_has_that_of_the_route(
    wire: Wire, model: str, format: int
) -> None:
    await wire.create("s", model=model)
    texts = ['{"role":"user","content":"a"}', '{"role":"user","content":"b"}']
    await send(wire, "s", messages=[Message(json=text) for text in texts])
    stored = await wire.read("s")
    assert [message.format for message in stored] == [format] * 3
    assert [message.json for message in stored[:2]] == texts


async def test_the_client_leaves_the_format_of_plain_text_to_the_server(
    server: Running, wire: Wire
) -> None:
    await wire.create("s", model="other-1")
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        await client.sessions.send_and_wait("s", messages=[{"role": "user", "content": "a"}])
        block = {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}}
        await client.sessions.send_and_wait("s", messages=[{"role": "user", "content": [block]}])
    assert {message.format for message in await wire.read("s")} == {FORMAT_ANTHROPIC}


async def test_options_of_the_client_reach_the_model_in_their_order(
    server: Running, models: ModelServer
) -> None:
    schema = {"reasoning": {"type": "string"}, "answer": {"type": "string"}, "a": 2**60 + 1}
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        session = await client.create_session(
            model="one-1", config={"model_options": {"z": schema, "y": 1}}
        )
        await session.send_and_wait("Hello", options={"x": schema, "b": 1})
    [request] = models.requests
    sent = json.dumps({key: request.body[key] for key in request.body if key in "zyxb"})
    assert sent == json.dumps({"z": schema, "y": 1, "x": schema, "b": 1})


async def test_the_request_is_the_same_when_it_is_repeated(wire: Wire) -> None:
    await wire.create("s", model="other-1")
    message = Message(json='{"role":"user","content":"a"}')
    first = await send(wire, "s", messages=[message], request_id="r")
    again = await send(wire, "s", messages=[message], request_id="r")
    assert first.turn_id == again.turn_id
    assert SendRequest(messages=[message]).messages[0].format == 0
