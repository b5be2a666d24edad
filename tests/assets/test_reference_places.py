"""A string in a provider's JSON refers to an asset only where the format expects a file."""

import json
from typing import Any

import pytest

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_GEMINI,
    FORMAT_OPENAI,
    Format,
    Message,
)
from sessiond_server.core.limits import Limits
from sessiond_server.formats.pieces import Media, Piece, Result
from sessiond_server.formats.read import read
from sessiond_server.formats.token_counts import Estimate
from sessiond_server.messages.validation import MessageValidator

OPENAI, ANTHROPIC, GEMINI = FORMAT_OPENAI, FORMAT_ANTHROPIC, FORMAT_GEMINI

ASSET = "a1" * 32
URI = f"sessiond-asset:{ASSET}"


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def found(value: Any, message_format: Format.ValueType) -> list[str]:
    """Return the paths of the references that an append counts, in the order of the JSON."""
    message = Message(format=message_format, json=json.dumps(value))
    validator = MessageValidator(Limits(), Estimate())
    validator.encode([message])
    assert [sha256.hex() for _, sha256 in validator.asset_refs] == [ASSET] * bool(
        validator.asset_fields
    )
    return list(validator.asset_fields.values())


def assets_of(pieces: list[Piece]) -> list[str]:
    return [
        asset_id
        for piece in pieces
        for asset_id in (
            assets_of([*piece.pieces])
            if isinstance(piece, Result)
            else [piece.asset_id]
            if isinstance(piece, Media)
            else []
        )
        if asset_id
    ]


IMAGE = {"type": "image", "source": {"type": "url", "url": URI}}
PLACES: list[tuple[Format.ValueType, Any, str]] = [
    (OPENAI, user({"type": "image_url", "image_url": {"url": URI}}), "content[0].image_url.url"),
    (OPENAI, user({"type": "image_url", "image_url": URI}), "content[0].image_url"),
    (OPENAI, user({"type": "text"}, {"type": "input_image", "image_url": URI}),
     "content[1].image_url"),
    (OPENAI, user({"type": "input_audio", "input_audio": {"data": URI}}),
     "content[0].input_audio.data"),
    (OPENAI, user({"type": "file", "file": {"file_data": URI}}), "content[0].file.file_data"),
    (OPENAI, user({"type": "input_file", "file_data": URI}), "content[0].file_data"),
    (OPENAI, user({"type": "input_file", "file_url": URI}), "content[0].file_url"),
    (OPENAI, {"role": "tool", "tool_call_id": "1",
              "content": [{"type": "image_url", "image_url": {"url": URI}}]},
     "content[0].image_url.url"),
    (OPENAI, {"role": "assistant", "content": None,
              "images": [{"type": "image_url", "image_url": {"url": URI}}]},
     "images[0].image_url.url"),
    (OPENAI, {"type": "function_call_output", "call_id": "1",
              "output": [{"type": "input_image", "image_url": URI}]},
     "output[0].image_url"),
    (OPENAI, {"type": "computer_call_output", "call_id": "1",
              "output": {"type": "computer_screenshot", "image_url": URI}},
     "output.image_url"),
    (OPENAI, {"type": "image_generation_call", "id": "1", "result": URI}, "result"),
    (ANTHROPIC, user(IMAGE), "content[0].source.url"),
    (ANTHROPIC, user({"type": "document", "source": {"type": "base64", "data": URI}}),
     "content[0].source.data"),
    (ANTHROPIC, user({"type": "document", "source": {"type": "text", "data": URI}}),
     "content[0].source.data"),
    (ANTHROPIC, user({"type": "tool_result", "tool_use_id": "1", "content": [IMAGE]}),
     "content[0].content[0].source.url"),
    (ANTHROPIC, user({"type": "tool_result", "tool_use_id": "1", "content": IMAGE}),
     "content[0].content.source.url"),
    (GEMINI, {"role": "user", "parts": [{"inlineData": {"data": URI}}]},
     "parts[0].inlineData.data"),
    (GEMINI, {"role": "user", "parts": [{"inline_data": {"data": URI}}]},
     "parts[0].inline_data.data"),
    (GEMINI, {"role": "user", "parts": {"fileData": {"fileUri": URI}}}, "parts.fileData.fileUri"),
    (GEMINI, {"role": "user", "parts": [{"file_data": {"file_uri": URI}}]},
     "parts[0].file_data.file_uri"),
    (GEMINI, {"role": "user", "parts": [{"functionResponse": {"name": "f", "parts": [
        {"inlineData": {"data": URI}}]}}]},
     "parts[0].functionResponse.parts[0].inlineData.data"),
]  # fmt: skip


@pytest.mark.parametrize(("message_format", "value", "path"), PLACES)
def test_a_reference_in_the_place_of_a_file_counts(
    message_format: Format.ValueType, value: Any, path: str
) -> None:
    assert found(value, message_format) == [f"messages[0].json.{path}"]


@pytest.mark.parametrize(("message_format", "value", "path"), PLACES)
def test_what_counts_is_what_a_model_gets(
    message_format: Format.ValueType, value: Any, path: str
) -> None:
    message = Message(format=message_format, json=json.dumps(value))
    assert assets_of(read(message).pieces) == [ASSET]


def test_an_image_within_a_document_counts() -> None:
    document = {"type": "document", "source": {"type": "content", "content": [IMAGE]}}
    assert found(user(document), ANTHROPIC) == [
        "messages[0].json.content[0].source.content[0].source.url"
    ]


@pytest.mark.parametrize(
    ("message_format", "value"),
    [
        (OPENAI, {"role": "user", "content": URI}),
        (OPENAI, user({"type": "text", "text": URI})),
        (OPENAI, user({"type": "image_url", "image_url": {"url": f"see {URI}"}})),
        (OPENAI, user({"type": "image_url", "image_url": {"url": "https://x", "detail": URI}})),
        (OPENAI, user({"type": "unheard_of", "image_url": URI})),
        (OPENAI, {"role": "assistant", "content": None, "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": f'"{URI}"'}},
            {"id": "2", "type": "function", "function": {"name": "f", "arguments": {
                "image_url": URI}}}]}),
        (OPENAI, {"role": "tool", "content": {"image_url": URI, "url": URI}}),
        (OPENAI, {"role": "tool", "content": [{"url": URI}]}),
        (OPENAI, {"role": "user", "content": "x", "image_url": URI, "url": URI}),
        (OPENAI, {"type": "function_call", "call_id": "1", "name": "f", "arguments": URI}),
        (OPENAI, {"type": "function_call_output", "call_id": "1", "output": URI}),
        (OPENAI, {"type": "program_output", "id": "1", "result": URI}),
        (ANTHROPIC, user({"type": "text", "text": URI})),
        (ANTHROPIC, {"role": "assistant", "content": [
            {"type": "tool_use", "id": "1", "name": "f", "input": {
                "source": {"url": URI}, "content": [IMAGE]}}]}),
        (ANTHROPIC, user({"type": "tool_result", "tool_use_id": "1", "content": URI})),
        (ANTHROPIC, user({"type": "search_result", "source": URI, "title": URI})),
        (GEMINI, {"role": "user", "parts": [{"text": URI}]}),
        (GEMINI, {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {
            "inlineData": {"data": URI}}}}]}),
        (GEMINI, {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {
            "parts": [{"inlineData": {"data": URI}}]}}}]}),
    ],
)  # fmt: skip
def test_a_reference_anywhere_else_is_text(message_format: Format.ValueType, value: Any) -> None:
    assert found(value, message_format) == []
    assert assets_of(read(Message(format=message_format, json=json.dumps(value))).pieces) == []
