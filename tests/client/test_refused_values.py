"""Errors about values that cannot be sent name the field's path and the remedy."""

import json
import math
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from sessiond import (
    AsyncClient,
    AsyncSessionPool,
    BatchTooLarge,
    Client,
    InvalidField,
    NewMessage,
    SessionPool,
)
from sessiond._protocol.json_text import MAX_LEVELS
from sessiond.v1.session_service_pb2 import StoreMessagesResponse

from .conftest import Colour, FakeServer


class SdkObject:
    def model_dump(self, **_: Any) -> dict[str, Any]:
        return {}


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


LOOP: dict[str, Any] = {"role": "user"}
LOOP["content"] = [{"type": "text", "text": LOOP}]


def image(data: object) -> dict[str, Any]:
    source = {"type": "base64", "media_type": "image/png", "data": data}
    content = [{"type": "text", "text": "x"}, {"type": "image", "source": source}]
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("message", "path", "text"),
    [
        (image(b"\x89PNG"), "messages[1].content[1].source.data", 'model_dump(mode="json")'),
        (image(bytearray(3)), "messages[1].content[1].source.data", "is bytearray"),
        (image(memoryview(b"x")), "messages[1].content[1].source.data", "give base64"),
        (image(math.nan), "messages[1].content[1].source.data", "is nan"),
        (image({1}), "messages[1].content[1].source.data", "of type set"),
        (image(datetime.now(UTC)), "messages[1].content[1].source.data", "of type datetime"),
        ({"role": "user", "content": [SdkObject()]}, "messages[1].content[0]", "exclude_none"),
        ({"role": "user", "content": ({"x": {(): 1}},)}, "messages[1].content[0].x", "has a key"),
        (LOOP, "messages[1].content[0].text", "contains itself"),
        (SdkObject(), "messages[1]", 'model_dump(mode="json", exclude_none=True)'),
        (NewMessage(image(b"x")), "messages[1].content[1].source.data", "is bytes"),
    ],
)
@pytest.mark.parametrize("count", [2, 200])
async def test_a_value_that_json_lacks_is_named_by_its_path(
    colour: Colour, client: Any, message: Any, path: str, text: str, count: int
) -> None:
    plain = {"role": "user", "content": "x", "id": uuid.uuid4()}
    messages = [plain, message, *[plain] * (count - 2)]
    for call in (client.sessions.store_messages, client.sessions.import_messages):
        with pytest.raises(InvalidField) as caught:
            await colour.call(call, "s", messages)
        assert caught.value.field_violations[0].field == path
        assert text in str(caught.value)


async def test_a_value_without_end_of_levels_is_named(colour: Colour, client: Any) -> None:
    message = {"role": "user", "content": deep(100_000)}
    with pytest.raises(InvalidField, match=f"deeper than {MAX_LEVELS} levels"):
        await colour.call(client.sessions.store_message, "s", message)


@pytest.mark.parametrize(
    ("keywords", "path"), [({"temperature": 0.5}, "temperature"), ({"tools": []}, "tools")]
)
async def test_an_option_of_the_model_as_a_keyword_is_led_to_options(
    colour: Colour, session: Any, client: Any, keywords: dict[str, Any], path: str
) -> None:
    hint = f"options={keywords!r}"
    for call in (session.send, session.send_and_wait, session.stream):
        with pytest.raises(InvalidField) as caught:
            await colour.call(call, "x", **keywords)
        assert hint in str(caught.value)
        assert caught.value.field_violations[0].field == path
        with pytest.raises(InvalidField) as caught:
            await colour.call(call, {"prompt": "x", **keywords})
        assert caught.value.field_violations[0].field == f"prompt.{path}"
        assert hint in str(caught.value)


async def test_times_as_texts_are_named(colour: Colour, client: Any) -> None:
    with pytest.raises(InvalidField, match="created_from must be a datetime, not str"):
        await colour.call(client.list_sessions, created_from="2026-01-01")


@pytest.mark.parametrize("messages", [None, 5, object()])
async def test_messages_that_are_no_list_are_named(
    colour: Colour, client: Any, messages: Any
) -> None:
    for call in (client.sessions.store_messages, client.sessions.import_messages):
        with pytest.raises(InvalidField, match="messages must be a list of messages, not"):
            await colour.call(call, "s", messages)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ('{"kind":"export","version":1}\n', "io.StringIO"),
        ('\ufeff\n {"version": 1}', "json.loads"),
        (b"{}", "is bytes"),
        (5, "not int"),
        (None, "not NoneType"),
        ("a\0b", "cannot be the path of a file"),
        ("", "cannot be the path of a file"),
    ],
)
async def test_the_text_of_an_export_is_not_taken_for_a_path(
    colour: Colour, client: Any, source: Any, text: str
) -> None:
    with pytest.raises(InvalidField, match=r"^INVALID_FIELD: source ") as caught:
        await colour.call(client.sessions.import_session, source)
    assert text in str(caught.value)


async def test_a_batch_that_is_too_large_is_told_of_the_clients_own_calls(
    colour: Colour, client: Any, server: FakeServer
) -> None:
    text = "messages: the batch has 2000 messages. Send several batches, or use ImportMessages"
    abort = server.abort(
        grpc.StatusCode.INVALID_ARGUMENT,
        text,
        reason="BATCH_TOO_LARGE",
        fields={"messages": "or ImportSession or StoreMessages"},
    )
    server.on("StoreMessages", abort)
    with pytest.raises(BatchTooLarge) as caught:
        await colour.call(client.sessions.store_messages, "s", [{"role": "user", "content": "x"}])
    assert caught.value.message == text.replace("ImportMessages", "import_messages")
    assert caught.value.field_violations[0].description == "or import_session or store_messages"


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"target": 5}, "target"),
        ({"target": "half \ud83d"}, "target"),
        ({"target": "https://h:1"}, "target"),
        ({"api_key": 5}, "api_key"),
        ({"api_key": b"k"}, "api_key"),
        ({"api_key": "a\nb"}, "api_key"),
        ({"timeout": "30"}, "timeout"),
        ({"timeout": math.nan}, "timeout"),
        ({"tls": 5}, "tls"),
        ({"tls": b"x"}, "tls"),
        ({"tls": "a\0b"}, "tls"),
        ({"options": 5}, "options"),
        ({"options": ["x"]}, "options"),
        ({"options": {5: 1}}, "options[5]"),
        ({"options": {"x": object()}}, "options['x']"),
    ],
)
@pytest.mark.parametrize("make", [Client, AsyncClient])
def test_settings_of_a_client_are_named(
    make: Callable[..., Any], settings: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        make(**settings)
    assert caught.value.field_violations[0].field == field


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"size": "5"}, "size"),
        ({"size": 0}, "size"),
        ({"size": None}, "size"),
        ({"lease_timeout": "5"}, "lease_timeout"),
        ({"lease_timeout": math.nan}, "lease_timeout"),
        ({"messages": 5}, "messages"),
        ({"messages": {"role": "user"}}, "messages"),
        ({"session_id_prefix": 5}, "session_id_prefix"),
        ({"template": "t", "messages": []}, "messages"),
    ],
)
@pytest.mark.parametrize("make", [SessionPool, AsyncSessionPool])
def test_settings_of_a_pool_are_named(
    make: Callable[..., Any], settings: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        make(None, **settings)
    assert caught.value.field_violations[0].field == field


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"handler": 5}, "handler"),
        ({"max_attempts": "5"}, "max_attempts"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"retry_delay": None}, "retry_delay"),
        ({"retry_delay": -1}, "retry_delay"),
        ({"lease_duration": "1m"}, "lease_duration"),
    ],
)
async def test_what_a_worker_cannot_use_is_named_before_it_leases(
    colour: Colour, client: Any, server: FakeServer, arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        await colour.call(client.processing.work, **{"queue": "q", "handler": print, **arguments})
    assert caught.value.field_violations[0].field == field
    assert not server.received


@pytest.mark.parametrize("progress", [5, "x"])
async def test_a_progress_that_cannot_be_called_is_named(
    colour: Colour, client: Any, tmp_path: Path, progress: Any
) -> None:
    export = json.dumps({"version": 1})
    for call, source in (
        (client.sessions.import_session, [export]),
        (client.sessions.export_to, "s"),
    ):
        arguments = (source,) if source != "s" else ("s", tmp_path / "x")
        with pytest.raises(InvalidField, match="progress must be a function"):
            await colour.call(call, *arguments, progress=progress)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("pieces", [[1, 2], ["x"], [None], [b"x", "y"]])
async def test_pieces_of_an_asset_that_are_no_bytes_are_refused(
    colour: Colour, client: Any, server: FakeServer, pieces: Any
) -> None:
    server.on("UploadAsset", server.abort(grpc.StatusCode.UNIMPLEMENTED))
    with pytest.raises(InvalidField, match=r"source gives .*; it must give bytes"):
        await colour.call(client.assets.upload, pieces)


async def test_tuples_and_other_iterables_are_lists_of_messages(
    colour: Colour, client: Any, server: FakeServer
) -> None:
    server.on("StoreMessages", StoreMessagesResponse(first_seq=1, last_seq=1))
    message = {"role": "user", "content": "x"}
    for messages in ((message,), iter([message]), {1: message}.values()):
        await colour.call(client.sessions.store_messages, "s", messages)
    assert [len(request.messages) for request in server.of("StoreMessages")] == [1, 1, 1]
