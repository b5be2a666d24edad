"""Messages that are stored without a format: the client detects it by their shape."""

import json
import typing
from typing import Any

import pytest

from sessiond import InvalidField, NewMessage
from sessiond._requests.encoded import encoded_store
from sessiond._requests.input import add_batch
from sessiond._types.message import Message
from sessiond.v1 import message_pb2
from sessiond.v1.conversation_service_pb2 import SendRequest
from sessiond.v1.session_service_pb2 import StoreMessagesRequest

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
USE = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
PNG = {"type": "base64", "media_type": "image/png", "data": "AAAA"}

SHAPES: list[tuple[str, dict[str, Any]]] = [
    ("openai", {"role": "user", "content": "Hi"}),
    ("openai", {"role": "system", "content": "Hi"}),
    ("openai", {"role": "user", "content": [{"type": "text", "text": "Hi"}]}),
    ("openai", {"role": "assistant", "content": None, "tool_calls": [CALL]}),
    ("openai", {"role": "tool", "tool_call_id": "c", "content": "21"}),
    ("openai", {"role": "tool", "content": [{"type": "text", "text": "21"}]}),
    ("openai", {"role": "function", "name": "f", "content": "21"}),
    ("openai", {"role": "developer", "content": "Hi"}),
    ("openai", {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}),
    ("openai", {"role": "assistant", "content": None, "refusal": "No"}),
    ("openai", {"role": "assistant", "content": "x", "tool_calls": None, "refusal": None}),
    ("openai", {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}),
    ("openai", {"type": "an_item_of_next_year", "id": "i"}),
    ("openai", {"type": "message", "role": "user", "content": [{"type": "input_text"}]}),
    # In Mistral's reasoning, "thinking" is a list; in Anthropic's, it is a text.
    ("openai", {"role": "assistant", "content": [{"type": "thinking", "thinking": []}]}),
    ("anthropic", {"role": "assistant", "content": [USE]}),
    ("anthropic", {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}),
    ("anthropic", {"role": "user", "content": [{"type": "image", "source": PNG}]}),
    ("anthropic", {"role": "user", "content": [{"type": "document", "source": PNG}]}),
    ("anthropic", {"role": "assistant", "content": [{"type": "thinking", "thinking": "?"}]}),
    ("anthropic", {"role": "assistant", "content": [{"type": "web_search_tool_result"}]}),
    (
        "anthropic",
        {
            "role": "user",
            "content": [{"type": "text", "text": "x", "cache_control": {"type": "e"}}],
        },
    ),
    (
        "anthropic",
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "x"}],
            "stop_reason": "end_turn",
        },
    ),
    ("anthropic", USE),
    ("gemini", {"role": "model", "parts": [{"functionCall": {"name": "f"}}]}),
    ("gemini", {"role": "user", "parts": [{"text": "Hi"}]}),
    ("gemini", {"parts": {"text": "Hi"}}),
    ("gemini", {"role": "function", "parts": [{"functionResponse": {"name": "f"}}]}),
    ("gemini", {"role": "model"}),
    # Values of unexpected types do not identify a format.
    ("openai", {"role": "user", "content": [{"type": ["tool_use"]}, "x", None]}),
    ("openai", {"role": "user", "content": [{"type": "image", "source": "x"}]}),
]


def formats(messages: list[Any], format: str | None = None) -> list[str]:
    """Return the formats of messages, which must not depend on the way of encoding."""
    one_by_one, head = StoreMessagesRequest(), StoreMessagesRequest()
    add_batch(one_by_one.messages, messages, format)
    encoded = StoreMessagesRequest.FromString(encoded_store(head, messages, format))
    assert encoded == one_by_one
    names = message_pb2.Format.Name
    return [names(m.format).removeprefix("FORMAT_").lower() for m in encoded.messages]


@pytest.mark.parametrize(("format", "message"), SHAPES)
def test_the_shape_shows_the_format(format: str, message: dict[str, Any]) -> None:
    text = json.dumps(message)
    assert formats([message, text, text.encode(), NewMessage(message)]) == [format] * 4


@pytest.mark.parametrize(("_", "message"), SHAPES)
def test_a_given_format_is_kept(_: str, message: dict[str, Any]) -> None:
    given = [message, NewMessage(message, format="anthropic")]
    assert formats(given, "gemini") == ["gemini", "anthropic"]


def test_each_message_of_a_batch_has_its_own_format() -> None:
    assert formats([message for _, message in SHAPES]) == [format for format, _ in SHAPES]


def sdk_types(union: Any) -> list[str]:
    """Return the values of `type` in the members of a union of an SDK."""
    found = []
    for member in typing.get_args(union):
        hints = typing.get_type_hints(member) if isinstance(member, type) else {}
        found += [text for text in typing.get_args(hints.get("type")) if isinstance(text, str)]
    return found


def test_every_block_of_anthropics_sdk_but_text_is_told() -> None:
    types = pytest.importorskip("anthropic.types.beta")
    kinds = [kind for kind in sdk_types(types.BetaContentBlockParam) if kind != "text"]
    assert len(kinds) > 20
    for kind in kinds:
        block = {"type": kind, "thinking": "?", "source": PNG}
        assert formats([{"role": "user", "content": [block]}]) == ["anthropic"], kind


def test_every_item_of_openais_sdk_is_told() -> None:
    types = pytest.importorskip("openai.types.responses")
    kinds = sdk_types(types.ResponseInputItemParam)
    assert len(kinds) > 25
    assert formats([{"type": kind} for kind in kinds]) == ["openai"] * len(kinds)


AMBIGUOUS = [
    {"role": "assistant", "content": [USE], "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c", "content": [{"type": "tool_result"}]},
    {"role": "model", "content": [USE]},
    {"role": "model", "parts": [{"text": "x"}], "tool_calls": [CALL]},
    {"role": "user", "content": [{"type": "input_text"}, {"type": "tool_result"}]},
]


@pytest.mark.parametrize("message", AMBIGUOUS)
def test_marks_of_two_formats_are_refused_with_what_to_do(message: dict[str, Any]) -> None:
    plain = {"role": "user", "content": "x"}
    for given in (message, json.dumps(message), NewMessage(message)):
        with pytest.raises(InvalidField, match=r"give \"openai\", \"anthropic\" or") as caught:
            add_batch(StoreMessagesRequest().messages, [plain, given], None)
        assert caught.value.field_violations[0].field == "format"
        assert "messages[1]" in str(caught.value)
    with pytest.raises(InvalidField, match="format"):
        encoded_store(StoreMessagesRequest(), [plain, message], None)
    assert formats([message], "openai") == ["openai"]


@pytest.mark.parametrize("text", ["no JSON", "[1]", "1", ""])
def test_text_that_is_no_object_is_for_the_server_to_refuse(text: str) -> None:
    assert formats([text]) == ["openai"]


def test_plain_text_that_is_sent_leaves_its_format_to_the_server() -> None:
    request = SendRequest()
    plain = [{"role": role, "content": "Hi"} for role in ("user", "assistant", "system")]
    other = [message for _, message in SHAPES if message not in plain]
    read = Message("s", message_pb2.Message(json="{}", format=message_pb2.FORMAT_GEMINI))
    add_batch(request.messages, [*plain, *other, read], None, is_sent=True)
    assert [message.format for message in request.messages[:3]] == [0, 0, 0]
    assert all(message.format for message in request.messages[3:])
    assert request.messages[-1].format == message_pb2.FORMAT_GEMINI
