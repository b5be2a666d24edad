"""Files inside messages as assets: stored once, resolved in turns, exported and imported."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from sessiond import AsyncClient, Client, NewMessage
from sessiond.v1.message_pb2 import Blob, Part
from sessiond_server.providers.settings import ProviderSettings
from sessiond_server.server import Running
from sessiond_server.settings import Settings

from ..support.model_server import ModelServer

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 1200
BASE64 = base64.b64encode(PNG).decode()
URL = f"data:image/png;base64,{BASE64}"
OPENAI = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": URL}}]}
ANTHROPIC = {
    "role": "user",
    "content": [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BASE64}}
    ],
}
GEMINI = {"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": BASE64}}]}
PARTS = NewMessage(parts=[Part(image=Blob(media_type="image/png", inline=PNG))], role="user")
ALL: list[Any] = [OPENAI, ANTHROPIC, GEMINI, PARTS, json.dumps(OPENAI)]


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


@pytest.fixture
async def client(server: Running) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(f"127.0.0.1:{server.port}") as opened:
        yield opened


@pytest.mark.parametrize("model", ["one-1", "other-1"])
@pytest.mark.parametrize("way", ["store", "import", "send", "session"])
async def test_a_turn_gets_the_files_that_were_taken_out(
    client: AsyncClient, models: ModelServer, model: str, way: str
) -> None:
    session = await client.create_session(model=model)
    match way:
        case "store":
            await session.store_messages(ALL, extract_files=True)
        case "import":
            await session.import_messages(ALL, extract_files=True)
        case "send":
            await session.send_and_wait(messages=ALL, extract_files=True)
        case "session":
            await session.store_messages(ALL)
            export = await session.export()
            info = await client.sessions.import_session(export, "again", extract_files=True)
            session = await client.get_session(info.session_id)
    if way != "send":
        await session.send_and_wait("What is this?")
    [request] = models.requests
    assert json.dumps(request.body).count(BASE64) == len(ALL)
    stored = (await session.get_messages())[: len(ALL)]
    assert all(message.content_bytes < 300 for message in stored)
    asset = await client.assets.get(stored[3].proto.parts.parts[0].image.asset_id)
    assert (asset.media_type, asset.size) == ("image/png", len(PNG))
    assert await client.assets.read(asset.asset_id) == PNG
    for message in (*stored[:3], stored[4]):
        assert asset.uri in message.json
        assert BASE64 not in message.json


async def test_small_files_and_calls_that_do_not_ask_keep_their_messages(
    client: AsyncClient,
) -> None:
    session = await client.create_session()
    text = json.dumps(OPENAI, indent=1)
    await session.store_message(text)
    await session.store_message(text, extract_files=len(PNG) + 1)
    await session.store_message(text, extract_files=False)
    assert [message.json for message in await session.get_messages()] == [text] * 3


async def test_the_same_file_is_uploaded_once(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await client.create_session()
    uploads = 0
    upload = type(client.assets).upload

    async def counted(*args: Any, **keywords: Any) -> Any:
        nonlocal uploads
        uploads += 1
        return await upload(*args, **keywords)

    monkeypatch.setattr(type(client.assets), "upload", counted)
    await session.store_messages([*ALL, *ALL], extract_files=1000)
    await session.import_messages(ALL * 30, extract_files=1000)
    assert uploads == 2


async def test_the_sync_client_takes_files_out_too(client: AsyncClient, server: Running) -> None:
    def store() -> None:
        with Client(f"127.0.0.1:{server.port}") as sync:
            session = sync.create_session("sync")
            session.store_message(OPENAI, extract_files=True)
            session.store_messages(ALL, extract_files=1000)
            session.import_messages(iter(ALL), extract_files=1000)
            sync.sessions.import_session(session.export(), "again", extract_files=True)

    await asyncio.to_thread(store)
    stored = await client.sessions.get_messages("again")
    assert [message.content_bytes < 300 for message in stored] == [True] * 11


async def test_messages_beyond_the_limit_fit_once_their_files_are_assets(
    client: AsyncClient,
) -> None:
    session = await client.create_session()
    large = base64.b64encode(PNG * 10).decode()
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{large}"}}
    stored = await session.store_message({"role": "user", "content": [part]}, extract_files=True)
    export = await session.export()
    assert [asset["size"] for asset in export["assets"]] == [len(PNG) * 10]
    assert stored.last_seq == 1
