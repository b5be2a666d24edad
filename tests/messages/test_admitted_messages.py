"""Every accepted message can be read, counted, and sent to every dialect."""

import json
from contextlib import suppress
from typing import Any

import pytest
from anthropic.types import Message as AnthropicMessage
from google.genai import types as genai
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types import responses
from openai.types.chat import ChatCompletionMessage

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_GEMINI,
    FORMAT_OPENAI,
    Format,
    Message,
)
from sessiond_server.core.errors import Fault
from sessiond_server.core.limits import Limits
from sessiond_server.formats.read import read
from sessiond_server.formats.report import UnsendableHistory
from sessiond_server.formats.token_counts import Estimate
from sessiond_server.messages.validation import MessageValidator

from ..formats.dialects import DIALECTS

FORMATS = st.sampled_from([FORMAT_OPENAI, FORMAT_ANTHROPIC, FORMAT_GEMINI])
KEY_NAMES = (
    "role type content parts text id name input arguments args function custom tool_calls "
    "function_call call_id tool_call_id tool_use_id output summary status source data url "
    "image_url file file_data inlineData inline_data functionCall functionResponse response "
    "thinking signature reasoning reasoning_content refusal audio images result action title "
    "media_type mimeType encrypted_content is_error thought x"
)
WORDS = (
    "user assistant system tool model developer function text image_url input_text output_text "
    "tool_use tool_result thinking image document function_call function_call_output reasoning "
    "base64 message mcp_call computer_call computer_call_output image_generation_call custom f "
    "sessiond-asset: {} data:image/png;base64,AAAA"
)
KEYS = st.sampled_from(KEY_NAMES.split())
STRINGS = st.sampled_from([*WORDS.split(), "", " ", "\ud83d", "\u2028"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | STRINGS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)  # fmt: skip
ROLES = st.sampled_from(["user", "assistant", "system", "tool", "model", "developer", None])
PARTS = st.lists(
    st.dictionaries(KEYS, VALUES, max_size=4).flatmap(
        lambda part: STRINGS.map(lambda kind: part | {"type": kind})
    )
    | STRINGS,
    max_size=3,
)
MESSAGES = st.builds(
    lambda role, fields, content, parts: {
        **fields,
        **({} if role is None else {"role": role}),
        **({} if content is None else {"content": content}),
        **({} if parts is None else {"parts": parts}),
    },
    ROLES,
    st.dictionaries(KEYS, VALUES, max_size=4),
    st.none() | STRINGS | PARTS | VALUES,
    st.none() | PARTS | VALUES,
)


def admit(value: Any, message_format: Format.ValueType) -> Message:
    message = Message(format=message_format, json=json.dumps(value), seq=1)
    message.role = MessageValidator(Limits(), Estimate()).encode([message]).roles[0]
    return message


@settings(max_examples=1000, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(value=MESSAGES, message_format=FORMATS)
def test_a_message_is_refused_with_its_field_or_can_be_sent(
    value: dict[str, Any], message_format: Format.ValueType
) -> None:
    try:
        message = admit(value, message_format)
    except Fault as fault:
        check_refusal(fault)
        return
    read(message)
    prompt = Message(format=FORMAT_OPENAI, json='{"role":"user","content":"q"}', role=3, seq=2)
    for dialect in DIALECTS.values():
        with suppress(UnsendableHistory):
            dialect.send([message, prompt])


def check_refusal(fault: Fault) -> None:
    assert fault.reason in ("INVALID_FIELD", "UNKNOWN_ROLE")
    [field] = fault.fields
    assert field.startswith("messages[0].json")


OPENAI_DUMPS = [
    ChatCompletionMessage.model_validate({"role": "assistant", "content": "x"}),
    ChatCompletionMessage.model_validate(
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        }
    ),
    responses.ResponseFunctionToolCall.model_validate(
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
    ),
    responses.ResponseReasoningItem.model_validate(
        {"type": "reasoning", "id": "1", "summary": [{"type": "summary_text", "text": "x"}]}
    ),
    responses.ResponseOutputMessage.model_validate(
        {
            "type": "message",
            "id": "1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "x", "annotations": []}],
        }
    ),
]
ANTHROPIC_DUMPS = [
    AnthropicMessage.model_validate(
        {
            "id": "1",
            "type": "message",
            "role": "assistant",
            "model": "c",
            "content": [
                {"type": "thinking", "thinking": "x", "signature": "y"},
                {"type": "text", "text": "a"},
                {"type": "tool_use", "id": "1", "name": "f", "input": {}},
            ],
            "stop_reason": "tool_use",
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
    )
]
GEMINI_DUMPS = [
    genai.Content(
        role="model",
        parts=[
            genai.Part(text="x"),
            genai.Part(text="t", thought=True, thought_signature=b"z"),
            genai.Part(function_call=genai.FunctionCall(name="f", args={"x": 1})),
            genai.Part(inline_data=genai.Blob(mime_type="image/png", data=b"x")),
        ],
    ),
    genai.Content(
        role="user",
        parts=[
            genai.Part(function_response=genai.FunctionResponse(name="f", response={"x": 1})),
            genai.Part(file_data=genai.FileData(file_uri="gs://x", mime_type="image/png")),
        ],
    ),
]


@pytest.mark.parametrize("options", [{}, {"exclude_none": True}, {"by_alias": True}])
@pytest.mark.parametrize(
    ("message_format", "dumped"),
    [
        *((FORMAT_OPENAI, one) for one in OPENAI_DUMPS),
        *((FORMAT_ANTHROPIC, one) for one in ANTHROPIC_DUMPS),
        *((FORMAT_GEMINI, one) for one in GEMINI_DUMPS),
    ],
)
def test_what_the_sdks_dump_is_admitted_and_read(
    message_format: Format.ValueType, dumped: Any, options: dict[str, bool]
) -> None:
    message = admit(dumped.model_dump(mode="json", **options), message_format)
    assert read(message).pieces
