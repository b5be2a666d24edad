"""Validation of messages by their format: refused values with their paths, and kept values."""

import json
from typing import Any

import pytest

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_GEMINI,
    FORMAT_OPENAI,
    ROLE_ASSISTANT,
    ROLE_TOOL,
    Format,
    Message,
)
from sessiond_server.core.errors import Fault
from sessiond_server.core.limits import Limits
from sessiond_server.formats.read import read
from sessiond_server.formats.token_counts import Estimate
from sessiond_server.messages.validation import MessageValidator

from ..support.wire import Wire, error_of, openai

OPENAI, ANTHROPIC, GEMINI = FORMAT_OPENAI, FORMAT_ANTHROPIC, FORMAT_GEMINI


def encode(value: Any, message_format: Format.ValueType) -> Message:
    message = Message(format=message_format, json=json.dumps(value))
    rows = MessageValidator(Limits(), Estimate()).encode([message])
    message.role = rows.roles[0]
    return message


def refusal(value: Any, message_format: Format.ValueType) -> Fault:
    with pytest.raises(Fault) as caught:
        encode(value, message_format)
    return caught.value


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def assistant(**fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, **fields}


@pytest.mark.parametrize(
    ("message_format", "value", "path"),
    [
        (OPENAI, user({"type": "text", "text": "x"}, {"type": 5}), ".content[1].type"),
        (OPENAI, user({"type": ["text"], "text": "x"}), ".content[0].type"),
        (OPENAI, user({"text": "x"}), ".content[0].type"),
        (OPENAI, user({"type": None}), ".content[0].type"),
        (OPENAI, user(5), ".content[0]"),
        (OPENAI, user(None), ".content[0]"),
        (OPENAI, user([]), ".content[0]"),
        (OPENAI, {"role": "user", "content": 5}, ".content"),
        (OPENAI, {"role": "user", "content": {"text": "x"}}, ".content"),
        (OPENAI, {"role": "system", "content": True}, ".content"),
        (OPENAI, user({"type": "text", "text": {"x": 1}}), ".content[0].text"),
        (OPENAI, user({"type": "image_url", "image_url": 5}), ".content[0].image_url"),
        (OPENAI, user({"type": "image_url", "image_url": {"url": 5}}), ".content[0].image_url.url"),
        (OPENAI, user({"type": "input_audio", "input_audio": "x"}), ".content[0].input_audio"),
        (OPENAI, user({"type": "file", "file": []}), ".content[0].file"),
        (OPENAI, user({"type": "file", "file": {"file_data": 1}}), ".content[0].file.file_data"),
        (OPENAI, user({"type": "input_file", "file_url": {}}), ".content[0].file_url"),
        (OPENAI, user({"type": "refusal", "refusal": []}), ".content[0].refusal"),
        (OPENAI, assistant(tool_calls={}), ".tool_calls"),
        (OPENAI, assistant(tool_calls="[]"), ".tool_calls"),
        (OPENAI, assistant(tool_calls=["f"]), ".tool_calls[0]"),
        (OPENAI, assistant(tool_calls=[{"id": "1"}]), ".tool_calls[0].function"),
        (
            OPENAI,
            assistant(tool_calls=[{"id": "1", "function": None}]),
            ".tool_calls[0].function",
        ),
        (OPENAI, assistant(tool_calls=[{"function": "f"}]), ".tool_calls[0].function"),
        (
            OPENAI,
            assistant(tool_calls=[{"function": {"name": 5}}]),
            ".tool_calls[0].function.name",
        ),
        (OPENAI, assistant(tool_calls=[{"id": 1, "function": {}}]), ".tool_calls[0].id"),
        (OPENAI, assistant(function_call="f"), ".function_call"),
        (OPENAI, assistant(refusal=["no"]), ".refusal"),
        (OPENAI, assistant(reasoning_content={"x": 1}), ".reasoning_content"),
        (OPENAI, assistant(reasoning_details=["x"]), ".reasoning_details[0]"),
        (OPENAI, assistant(audio="x"), ".audio"),
        (OPENAI, assistant(images=[{"type": 1}]), ".images[0].type"),
        (OPENAI, {"role": "tool", "tool_call_id": 1, "content": "x"}, ".tool_call_id"),
        (OPENAI, {"role": "user", "type": 5, "content": "x"}, ".type"),
        (OPENAI, {"type": "function_call", "call_id": 1, "name": "f"}, ".call_id"),
        (OPENAI, {"type": "function_call", "call_id": "1", "name": {}}, ".name"),
        (OPENAI, {"type": "reasoning", "summary": "x"}, ".summary"),
        (OPENAI, {"type": "reasoning", "summary": [{"text": 1}]}, ".summary[0].text"),
        (OPENAI, {"type": "image_generation_call", "id": "1", "result": {}}, ".result"),
        (OPENAI, {"role": "user", "text": "x"}, ".text"),
        (ANTHROPIC, {"role": "user", "content": 5}, ".content"),
        (ANTHROPIC, {"role": "user", "content": {"type": "text", "text": "x"}}, ".content"),
        (ANTHROPIC, user({"type": "text", "text": 5}), ".content[0].text"),
        (ANTHROPIC, user({"type": 5}), ".content[0].type"),
        (ANTHROPIC, user({"type": "image", "source": "x"}), ".content[0].source"),
        (ANTHROPIC, user({"type": "image", "source": {"data": 5}}), ".content[0].source.data"),
        (ANTHROPIC, user({"type": "tool_use", "id": 5}), ".content[0].id"),
        (ANTHROPIC, user({"type": "tool_use", "id": "1", "name": []}), ".content[0].name"),
        (ANTHROPIC, user({"type": "tool_result", "tool_use_id": 1}), ".content[0].tool_use_id"),
        (ANTHROPIC, user({"type": "tool_result", "content": 21}), ".content[0].content"),
        (
            ANTHROPIC,
            user({"type": "tool_result", "content": [{"type": "text", "text": []}]}),
            ".content[0].content[0].text",
        ),
        (ANTHROPIC, user({"type": "tool_result", "content": [1]}), ".content[0].content[0]"),
        (ANTHROPIC, user({"type": "thinking", "thinking": []}), ".content[0].thinking"),
        (ANTHROPIC, user({"type": "thinking", "signature": 1}), ".content[0].signature"),
        (
            ANTHROPIC,
            user({"type": "document", "source": {"type": "content", "content": [{"type": 1}]}}),
            ".content[0].source.content[0].type",
        ),
        (GEMINI, {"role": "user", "parts": "x"}, ".parts"),
        (GEMINI, {"role": "user", "parts": [5]}, ".parts[0]"),
        (GEMINI, {"role": "user", "parts": [{"text": 5}]}, ".parts[0].text"),
        (GEMINI, {"role": "user", "parts": {"text": 5}}, ".parts.text"),
        (GEMINI, {"role": "user", "parts": [{"functionCall": "f"}]}, ".parts[0].functionCall"),
        (
            GEMINI,
            {"role": "user", "parts": [{"function_call": {"name": 1}}]},
            ".parts[0].function_call.name",
        ),
        (
            GEMINI,
            {"role": "user", "parts": [{"inline_data": {"mime_type": 1}}]},
            ".parts[0].inline_data.mime_type",
        ),
        (
            GEMINI,
            {"role": "user", "parts": [{"fileData": {"fileUri": []}}]},
            ".parts[0].fileData.fileUri",
        ),
        (
            GEMINI,
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "parts": {}}}]},
            ".parts[0].functionResponse.parts",
        ),
        (GEMINI, {"role": "model", "text": "x"}, ".text"),
        (
            GEMINI,
            {"role": "model", "parts": [{"text": "x", "function_call": {"name": "f"}}]},
            ".parts[0].function_call",
        ),
        (OPENAI, assistant(function_call={"name": "f", "type": []}), ".function_call.type"),
    ],
)
def test_a_message_of_no_known_shape_is_refused_with_the_path(
    message_format: Format.ValueType, value: Any, path: str
) -> None:
    fault = refusal(value, message_format)
    assert fault.reason == "INVALID_FIELD"
    assert list(fault.fields) == [f"messages[0].json{path}"]


CLAUDE = {"type": "tool_use", "id": "1", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "1", "content": "x"}
LANGCHAIN = {"content": "x", "additional_kwargs": {}, "response_metadata": {}, "id": "run-1"}


@pytest.mark.parametrize(
    ("value", "of", "formats"),
    [
        ({"type": "human", "content": "hi"}, "LangChain", "oag"),
        ({"type": "ai", "content": "hi", "id": "run-1"}, "LangChain", "oag"),
        ({"type": "system", "content": "hi", "id": "1"}, "LangChain", "oag"),
        ({"type": "AIMessageChunk", "content": "hi", "id": "1"}, "LangChain", "oag"),
        ({"type": "human", "data": {"content": "x", "type": "human"}}, "LangChain", "oag"),
        (LANGCHAIN | {"type": "tool", "tool_call_id": "1"}, "LangChain", "oag"),
        (
            {
                "lc": 1,
                "type": "constructor",
                "id": ["langchain", "schema", "messages", "HumanMessage"],
                "kwargs": {"content": "hi"},
            },
            "LangChain",
            "oag",
        ),
        (
            assistant(tool_calls=[{"name": "f", "args": {}, "id": "1", "type": "tool_call"}]),
            "LangChain",
            "oa",
        ),
        (
            {"id": "1", "role": "user", "parts": [{"type": "text", "text": "hi"}]},
            "AI SDK",
            "oag",
        ),
        (
            {"id": "1", "role": "assistant", "content": "", "parts": [{"type": "step-start"}]},
            "AI SDK",
            "oa",
        ),
        (
            {
                "role": "user",
                "content": "hi",
                "parts": [{"type": "text", "text": "hi"}],
            },
            "AI SDK",
            "oag",
        ),
        (
            assistant(content=[{"type": "tool-call", "toolCallId": "1", "toolName": "f"}]),
            "AI SDK",
            "oa",
        ),
        (
            {"role": "tool", "content": [{"type": "tool-result", "toolCallId": "1"}]},
            "AI SDK",
            "oa",
        ),
        (
            {
                "type": "user",
                "message": {"role": "user", "content": "hi"},
                "uuid": "1",
                "sessionId": "2",
            },
            "Claude Code",
            "oag",
        ),
        (
            {"type": "assistant", "message": {"role": "assistant"}, "id": "1"},
            "Claude Code",
            "oag",
        ),
        ({"type": "summary", "summary": "x", "leafUuid": "1"}, "Claude Code", "oag"),
        (
            {
                "timestamp": "2026-01-01",
                "type": "response_item",
                "payload": {"type": "message", "role": "user", "content": []},
            },
            "Codex",
            "oag",
        ),
        ({"timestamp": "1", "type": "event_msg", "payload": {}, "id": "1"}, "Codex", "oag"),
        (
            {"kind": "request", "parts": [{"content": "hi", "part_kind": "user-prompt"}]},
            "pydantic-ai",
            "oag",
        ),
        (
            {"kind": "response", "role": "model", "parts": [{"content": "x", "part_kind": "text"}]},
            "pydantic-ai",
            "oag",
        ),
        ({"role": "user", "content": [{"text": "hi"}]}, "Bedrock or Strands", "oa"),
        (
            assistant(content=[{"toolUse": {"toolUseId": "1", "name": "f", "input": {}}}]),
            "Bedrock or Strands",
            "oa",
        ),
        (user({"toolResult": {"toolUseId": "1", "content": []}}), "Bedrock or Strands", "oa"),
        (
            {"kind": "message", "role": "user", "parts": [{"kind": "text", "text": "x"}]},
            "A2A",
            "oag",
        ),
        ({"role": "user", "blocks": [{"block_type": "text", "text": "x"}]}, "LlamaIndex", "oag"),
        ({"from": "human", "value": "hi"}, "ShareGPT", "oag"),
        ({"id": "1", "object": "chat.completion", "choices": []}, "Chat Completions", "oag"),
        ({"id": "1", "object": "response", "output": []}, "Responses", "oag"),
        ({"candidates": [{"content": {}}]}, "candidates[0].content", "oag"),
        ({"role": "user", "parts": [{"text": "hi"}]}, "format=gemini", "oa"),
        ({"role": "model", "parts": [{"text": "hi"}]}, "format=gemini", "oa"),
        ({"parts": [{"text": "hi"}]}, "format=gemini", "oa"),
        (assistant(content=[CLAUDE]), "format=anthropic", "o"),
        (user(RESULT), "format=anthropic", "o"),
        ({"role": "tool", "content": [RESULT]}, "format=anthropic", "o"),
        (CLAUDE, "format=anthropic", "o"),
        (
            assistant(content=[{"type": "thinking", "thinking": "x", "signature": "y"}]),
            "format=anthropic",
            "o",
        ),
        (
            user({"type": "image", "source": {"type": "base64", "data": "x"}}),
            "format=anthropic",
            "o",
        ),
        ({"role": "tool", "tool_call_id": "1", "content": "x"}, "format=openai", "a"),
        ({"role": "developer", "content": "x"}, "format=openai", "a"),
        (assistant(tool_calls=[{"function": {"name": "f"}}]), "format=openai", "ag"),
        (user({"type": "image_url", "image_url": {"url": "x"}}), "format=openai", "ag"),
        (user({"type": "input_text", "text": "x"}), "format=openai", "ag"),
        ({"type": "function_call", "call_id": "1", "name": "f"}, "format=openai", "ag"),
        ({"role": "user", "content": "hi"}, "OpenAI or Anthropic", "g"),
    ],
)
def test_a_message_of_another_format_is_refused_with_its_name(
    value: Any, of: str, formats: str
) -> None:
    for letter in formats:
        message_format = {"o": OPENAI, "a": ANTHROPIC, "g": GEMINI}[letter]
        fault = refusal(value, message_format)
        assert fault.reason in ("INVALID_FIELD", "UNKNOWN_ROLE"), letter
        [(field, text)] = fault.fields.items()
        assert field.startswith("messages[0].json."), letter
        assert of in text, letter


@pytest.mark.parametrize(
    "value",
    [
        {"type": "message", "content": "x"},
        {"type": "text", "text": "x", "id": "1"},
        {"type": "input_image", "image_url": "x", "id": "1"},
        {"type": "user", "content": "x", "id": "1"},
        {"type": "function", "function": {"name": "f"}, "id": "call_1"},
        {"type": "TextMessage", "source": "user", "content": "x", "id": "1"},
        {"type": "response.output_text.delta", "item_id": "1", "id": "1"},
        {"type": "message_start", "message": {}},
        {"type": "unheard_of"},
        {"type": 5, "id": "1"},
        {"type": None, "id": "1"},
        {},
    ],
)
def test_what_has_no_role_and_is_no_item_is_refused(value: Any) -> None:
    fault = refusal(value, OPENAI)
    assert fault.reason == "UNKNOWN_ROLE"
    assert list(fault.fields) == ["messages[0].json.role"]


@pytest.mark.parametrize(
    ("value", "role"),
    [
        ({"type": "quantum_call", "id": "q_1", "program": "x"}, ROLE_ASSISTANT),
        ({"type": "quantum_call_output", "call_id": "q_1", "output": "42"}, ROLE_TOOL),
        ({"type": "memory", "id": "m_1", "content": "a note"}, ROLE_ASSISTANT),
        ({"type": "memory", "status": "completed"}, ROLE_ASSISTANT),
        ({"type": "new_kind_of_output", "text": "x"}, ROLE_TOOL),
        ({"type": "compaction", "encrypted_content": "x"}, ROLE_ASSISTANT),
        ({"type": "item_reference", "id": "1"}, ROLE_ASSISTANT),
        ({"type": "mcp_approval_response", "approve": True}, ROLE_TOOL),
        ({"role": None, "type": "function_call", "call_id": "1", "name": "f"}, ROLE_ASSISTANT),
        ({"type": "reasoning", "id": "1", "summary": [], "content": None}, ROLE_ASSISTANT),
    ],
)
def test_an_item_that_nobody_knows_yet_is_kept(value: Any, role: int) -> None:
    message = encode(value, OPENAI)
    assert message.role == role
    assert read(message).pieces


@pytest.mark.parametrize(
    ("message_format", "value"),
    [
        (OPENAI, assistant()),
        (OPENAI, {"role": "assistant"}),
        (OPENAI, {"role": "user", "content": []}),
        (OPENAI, {"role": "user", "content": ""}),
        (OPENAI, assistant(tool_calls=[], function_call=None, audio=None, refusal=None)),
        (OPENAI, assistant(tool_calls=[{"function": {"name": "f", "arguments": {"x": 1}}}])),
        (OPENAI, assistant(tool_calls=[{"id": "", "function": {"name": None}, "index": 0}])),
        (OPENAI, assistant(tool_calls=[{"id": "1", "type": "custom", "custom": {"name": "f"}}])),
        (OPENAI, assistant(content="x", annotations=[], provider_specific_fields={"a": [1]})),
        (OPENAI, assistant(content="x", reasoning=None, reasoning_details=[{"type": "x"}])),
        (OPENAI, assistant(content=[{"type": "thinking", "thinking": [{"type": "text"}]}])),
        (OPENAI, assistant(content=[{"type": "image", "data": "x", "mimeType": "image/png"}])),
        (OPENAI, assistant(content="x", parts=None, blocks=[{"type": "rich_text"}])),
        (OPENAI, user("a plain string", {"type": "unheard_of", "x": [1]})),
        (OPENAI, user({"type": "input_image", "file_id": "1", "image_url": None})),
        (OPENAI, {"role": "tool", "content": {"temp": 21}}),
        (OPENAI, {"role": "tool", "content": 21}),
        (OPENAI, {"role": "tool", "content": [{"id": 1, "type": 5}, 7, None]}),
        (OPENAI, {"role": "tool", "tool_call_id": "1", "content": [RESULT]}),
        (OPENAI, {"role": "tool", "tool_call_id": "1", "content": None}),
        (OPENAI, {"type": "additional_tools", "role": "developer", "tools": []}),
        (OPENAI, {"type": "message", "role": "assistant", "content": [], "status": "completed"}),
        (ANTHROPIC, {"role": "assistant", "content": []}),
        (ANTHROPIC, {"role": "assistant", "content": None}),
        (ANTHROPIC, user("a plain string", {"type": "unheard_of", "x": [1]})),
        (ANTHROPIC, user({"type": "text", "text": "x", "citations": None})),
        (ANTHROPIC, user({"type": "tool_result", "tool_use_id": "1", "content": {"temp": 21}})),
        (ANTHROPIC, user({"type": "tool_use", "id": "1", "name": "f", "input": None})),
        (ANTHROPIC, user({"type": "search_result", "source": "https://x", "title": "x"})),
        (ANTHROPIC, {"role": "assistant", "content": "x", "tool_calls": [], "usage": {"a": 1}}),
        (GEMINI, {"role": "model"}),
        (GEMINI, {"role": "model", "parts": None}),
        (GEMINI, {"role": "user", "parts": {"text": "x"}}),
        (GEMINI, {"role": "user", "parts": ["x"]}),
        (GEMINI, {"role": "user", "parts": [{"text": None, "function_call": {"name": "f"}}]}),
        (GEMINI, {"role": "user", "parts": [{"unheardOf": {"x": 1}}]}),
    ],
)
def test_what_sdks_and_servers_send_is_kept(message_format: Format.ValueType, value: Any) -> None:
    read(encode(value, message_format))


async def test_the_refused_message_is_named_and_nothing_is_stored(wire: Wire) -> None:
    await wire.create("one")
    odd = Message(format=OPENAI, json=json.dumps(user({"type": "text"}, {"type": 5})))
    error = await error_of(wire.store("one", openai("a"), openai("b"), openai("c"), odd))
    assert error.reason == "INVALID_FIELD"
    assert error.fields == {"messages[3].json.content[1].type": "is not a string"}
    assert (await wire.get("one")).last_seq == 0
