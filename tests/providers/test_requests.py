"""Requests on the wire: their exact bytes, their announced size, and their chunks."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest

from sessiond.v1.message_pb2 import ROLE_USER, Blob, Message, Part, Parts, ToolResult
from sessiond_server.formats.wire import AssetInfo, AssetString
from sessiond_server.providers import api
from sessiond_server.providers.body import (
    CHUNK_BYTES,
    AssetChanged,
    RequestBody,
    encode_body,
    encode_messages,
)
from sessiond_server.providers.references import asset_ids_of

from ..support.model_server import ModelServer, fails
from .asking import Shelf, hear, openai, question
from .made import CLASSES, HISTORIES, Made

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4_000


@pytest.fixture(params=[*CLASSES])
async def make(request: pytest.FixtureRequest, model_server: ModelServer) -> AsyncIterator[Made]:
    made = Made(request.param, model_server)
    yield made
    for provider in made.made:
        await provider.close()


def image(asset_id: str) -> Part:
    return Part(image=Blob(asset_id=asset_id))


def user(*parts: Part) -> Message:
    return Message(role=ROLE_USER, parts=Parts(parts=parts))


def base64s_in(value: Any) -> list[bytes]:
    """Decode all strings of more than 1,000 characters. They are base64; texts are shorter."""
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, list):
        return [found for item in value for found in base64s_in(item)]
    if isinstance(value, str) and len(value) > 1_000:
        return [base64.b64decode(value.rpartition(",")[2])]
    return []


NATIVE = {
    "openai": '{"content" :"q\\u00fc", "role":"user"  }',
    "openai-responses": '{"content" :"q\\u00fc", "role":"user"  }',
    "anthropic": '{"content" :"q\\u00fc", "role":"user"  }',
    "gemini": '{"parts": [ {"text" :"q\\u00fc"}], "role":"user"  }',
}


async def test_a_native_message_goes_byte_for_byte(make: Made, model_server: ModelServer) -> None:
    history = HISTORIES[make.kind](json.loads(NATIVE[make.kind]))
    history[0].json = NATIVE[make.kind]
    assert (await hear(make(), question(history, temperature=0.5))).answer
    assert NATIVE[make.kind].encode() in model_server.requests[0].content


async def test_options_keep_their_order(make: Made, model_server: ModelServer) -> None:
    schema = {"z": {"reasoning": 1, "answer": 2}, "a": 3}
    await hear(make(), question(second=schema, first=1))
    sent = model_server.requests[0].content
    assert sent.index(b'"second"') < sent.index(b'"first"')
    assert b'{"z":{"reasoning":1,"answer":2},"a":3}' in sent


async def test_a_large_request_is_made_in_a_thread(
    make: Made, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    to_thread = asyncio.to_thread

    async def counted(function: Any, *args: Any) -> Any:
        if function.__name__ in ("asset_ids_of", "_prepare"):
            threads.append(function.__name__)
        return await to_thread(function, *args)

    monkeypatch.setattr(api.asyncio, "to_thread", counted)
    assert (await hear(make(), question("short"))).answer
    assert not threads
    text = "long " * 100_000
    assert (await hear(make(), question(text))).answer
    assert threads == ["asset_ids_of", "_prepare"]
    assert text in json.dumps(model_server.requests[1].body)


class TestAssets:
    async def test_the_content_of_an_asset_is_sent(
        self, make: Made, model_server: ModelServer
    ) -> None:
        shelf = Shelf(("image/png", PNG), ("image/png", PNG + b"2"))
        history = [user(Part(text="What is it?"), *map(image, shelf.ids))]
        assert (await hear(make(), question(history, assets=shelf))).answer
        (received,) = model_server.requests
        assert base64s_in(received.body) == [PNG, PNG + b"2"]
        assert received.headers["content-length"] == str(len(received.content))

    async def test_each_asset_is_loaded_once_an_attempt(
        self, make: Made, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sessiond_server.providers.retries.BACKOFF_S", 0.001)
        shelf = Shelf(("image/png", PNG))
        (asset_id,) = shelf.ids
        history = [user(image(asset_id), Part(text="and"), image(asset_id)), user(image(asset_id))]
        model_server.script(fails(500))
        assert (await hear(make(), question(history, assets=shelf))).answer
        assert shelf.loaded == [asset_id] * 2
        assert all(base64s_in(received.body) == [PNG] * 3 for received in model_server.requests)

    async def test_one_that_does_not_exist_is_a_note(
        self, make: Made, model_server: ModelServer
    ) -> None:
        assert (await hear(make(), question([user(image("0" * 64))], assets=Shelf()))).answer
        assert "not sent" in json.dumps(model_server.requests[0].body)

    async def test_a_text_file_is_sent_as_text(self, make: Made, model_server: ModelServer) -> None:
        text = 'Grüße, "you"\n\t\\ 👋\x00' * 20_000
        shelf = Shelf(("text/plain", text.encode() + b"\xff"))
        # The pieces then end within characters.
        shelf.piece_bytes = 65_537
        file = Part(file=Blob(asset_id=shelf.ids[0]))
        assert (await hear(make(), question([user(file)], assets=shelf))).answer
        assert shelf.loaded == shelf.ids
        sent = json.dumps(model_server.requests[0].body, ensure_ascii=False)
        assert json.dumps(text + "\ufffd", ensure_ascii=False)[1:-1] in sent

    async def test_one_that_is_lost_while_it_is_sent(
        self, make: Made, model_server: ModelServer
    ) -> None:
        class Lost(Exception):
            pass

        class Losing(Shelf):
            async def load(self, asset_id: str) -> AsyncGenerator[bytes, None]:
                async for piece in super().load(asset_id):
                    yield piece
                    raise Lost

        shelf = Losing(("image/png", PNG))
        with pytest.raises(Lost):
            await hear(make(), question([user(image(shelf.ids[0]))], assets=shelf))

    @pytest.mark.parametrize("media_type", ["image/png", "text/plain"])
    async def test_one_that_is_not_whole(
        self, make: Made, model_server: ModelServer, media_type: str
    ) -> None:
        class Short(Shelf):
            async def load(self, asset_id: str) -> AsyncGenerator[bytes, None]:
                self.loaded.append(asset_id)
                yield b"x" * 100

        shelf = Short((media_type, PNG))
        file = Part(file=Blob(asset_id=shelf.ids[0]))
        part = image(shelf.ids[0]) if media_type == "image/png" else file
        fault = (await hear(make(), question([user(part)], assets=shelf))).refusal
        assert fault.reason == "MODEL_REQUEST_REJECTED"
        assert shelf.ids[0] in fault.message
        assert len(shelf.loaded) == 1

    def test_references_are_found_wherever_they_stand(self) -> None:
        ids = [f"{i:064x}" for i in range(6)]
        results = ToolResult(call_id="c", parts=[image(ids[1]), Part(text="x")])
        history = [
            user(Part(file=Blob(asset_id=ids[0])), Part(tool_result=results), image(ids[0])),
            *openai(
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": f"sessiond-asset:{ids[5]}"},
                        {"type": "image_url", "image_url": {"url": f"sessiond-asset:{ids[2]}"}},
                    ],
                },
                {
                    "type": "function_call_output",
                    "call_id": "c",
                    "output": [
                        {"type": "input_image", "image_url": f"sessiond-asset:{ids[3]}"},
                    ],
                },
            ),
            Message(
                role=ROLE_USER,
                format=2,
                json=json.dumps(
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "tool_result",
                                "tool_use_id": "t",
                                "content": [
                                    {
                                        "type": "image",
                                        "source": {
                                            "type": "base64",
                                            "media_type": "image/png",
                                            "data": f"sessiond-asset:{ids[4]}",
                                        },
                                    }
                                ],
                            }
                        ],
                    }
                ),
            ),
        ]
        assert asset_ids_of(history) == ids[:5]


class TestSize:
    async def test_it_is_added_up_before_anything_is_loaded(
        self, make: Made, model_server: ModelServer
    ) -> None:
        shelf = Shelf(*[("image/png", PNG + bytes([i])) for i in range(4)])
        history = [user(image(asset_id)) for asset_id in shelf.ids]
        asked = question(history, assets=shelf, max_request_bytes=len(PNG) * 5)
        fault = (await hear(make(), asked)).refusal
        assert fault.reason == "CONTEXT_TOO_LARGE"
        size = fault.metadata["context_bytes"]
        assert isinstance(size, int)
        assert size > len(PNG) * 5 == fault.metadata["max_bytes"]
        for text in (str(size), str(len(PNG) * 5), "attachments", "max_model_request_bytes"):
            assert text in fault.message
        assert (shelf.loaded, model_server.requests) == ([], [])

    async def test_it_is_exact(self, make: Made, model_server: ModelServer) -> None:
        shelf = Shelf(("image/png", PNG))
        history = [user(image(shelf.ids[0]))]
        await hear(make(), question(history, assets=shelf))
        size = len(model_server.requests[0].content)
        for limit, is_sent in ((size, True), (size - 1, False)):
            heard = await hear(make(), question(history, assets=shelf, max_request_bytes=limit))
            assert bool(heard.answers) is is_sent

    async def test_a_text_that_grows_when_it_is_encoded(
        self, make: Made, model_server: ModelServer
    ) -> None:
        shelf = Shelf(("text/plain", b'"' * 10_000))
        history = [user(Part(file=Blob(asset_id=shelf.ids[0])))]
        heard = await hear(make(), question(history, assets=shelf, max_request_bytes=15_000))
        assert heard.refusal.reason == "CONTEXT_TOO_LARGE"
        assert model_server.requests == []


class TestBody:
    """The chunks of a body."""

    async def test_chunks_are_small_and_assets_wait_for_their_turn(self) -> None:
        shelf = Shelf(("", b"abcd" * 2_000_000))
        (asset_id,) = shelf.ids
        messages = [
            {"role": "user", "content": "x" * 3_000_000},
            {"role": "user", "content": AssetString(asset_id, prefix="data:a/b;base64,")},
        ]
        body = RequestBody(
            encode_body({"model": "m"}, "messages", encode_messages(messages)),
            await shelf.describe([asset_id]),
            shelf.load,
        )
        size, received = body.size_bytes, b""
        async for chunk in body:
            assert len(chunk) <= 4 * CHUNK_BYTES
            # No part of the asset is loaded before its first chunk is due.
            assert len(received) >= 3_000_000 or not shelf.loaded
            received += chunk
        assert len(received) == size
        content = base64.b64encode(shelf.contents[asset_id][1]).decode()
        assert json.loads(received) == {
            "model": "m",
            "messages": [messages[0], {"role": "user", "content": f"data:a/b;base64,{content}"}],
        }

    @pytest.mark.parametrize("size_bytes", [99, 101])
    async def test_an_asset_of_another_size_stops_it(self, size_bytes: int) -> None:
        shelf = Shelf(("", b"x" * 100))
        (asset_id,) = shelf.ids
        pieces = encode_messages([{"content": AssetString(asset_id)}])
        body = RequestBody(pieces, {asset_id: AssetInfo("", size_bytes)}, shelf.load)
        with pytest.raises(AssetChanged):
            _ = [chunk async for chunk in body]
        assert isinstance(body.error, AssetChanged)

    def test_an_empty_list_and_no_fields(self) -> None:
        assert b"".join(encode_body({}, "messages", encode_messages([]))) == b'{"messages":[]}'  # type: ignore[arg-type]
