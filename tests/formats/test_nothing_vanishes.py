"""Every value that an append accepts reaches the model, or is in the report.

The tests replace each value of typical messages by an object, and add an unknown key to each
object. Only strings and numbers under ids, states and similar keys may be left out unreported.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC, FORMAT_GEMINI, FORMAT_OPENAI, Message
from sessiond_server.core.errors import Fault
from sessiond_server.messages import schemas
from sessiond_server.messages.schemas.checks import SchemaError

from .dialects import DIALECTS
from .histories import PDF, PNG, as_message

JSON = dict[str, Any]
MARK = "mark-of-a-value"

IMAGE = f"data:image/png;base64,{PNG}"
PDF_URL = f"data:application/pdf;base64,{PDF}"
FUNCTION = {"name": "f", "arguments": "{}"}
CALL = {"id": "c1", "type": "function", "index": 0, "function": FUNCTION}
USE = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}
EPHEMERAL = {"type": "ephemeral"}
CITATION = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}
OUTCOME = {"type": "exit", "exit_code": 0}

OPENAI: list[JSON] = [
    {"role": "user", "content": "q", "name": "ada"},
    {"role": "developer", "content": "d", "status": "completed", "id": "m", "type": "message"},
    {
        "role": "system",
        "content": [{"type": "text", "text": "s", "prompt_cache_breakpoint": {"mode": "explicit"}}],
    },
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "t"},
            {"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}},
            {"type": "file", "file": {"file_data": PDF_URL, "filename": "f.pdf"}},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        ],
    },
    {"role": "assistant", "content": "a", "refusal": None, "annotations": [], "tool_calls": [CALL]},
    {"role": "assistant", "content": "a", "refusal": "no", "reasoning_content": "r"},
    {"role": "assistant", "content": "a", "reasoning": "r", "reasoning_details": [{"text": "x"}]},
    {
        "role": "assistant",
        "content": [{"type": "output_text", "text": "o", "annotations": [CITATION]}],
        "type": "message",
        "id": "msg_1",
        "status": "completed",
        "phase": "commentary",
    },
    {"role": "assistant", "content": None, "function_call": FUNCTION},
    {"role": "tool", "tool_call_id": "c1", "content": "r"},
    {"role": "function", "name": "f", "content": "r"},
    {"type": "function_call", "call_id": "c1", "id": "fc_1", "status": "completed", **FUNCTION},
    {"type": "function_call_output", "call_id": "c1", "output": "r", "status": "completed"},
    {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "s"}],
        "encrypted_content": "gAAAA",
    },
    {"type": "custom_tool_call", "call_id": "c1", "name": "f", "input": "i"},
    {"type": "custom_tool_call_output", "call_id": "c1", "output": "o"},
    {
        "type": "web_search_call",
        "id": "ws_1",
        "status": "completed",
        "action": {"type": "search", "query": "q"},
    },
    {"type": "shell_call", "call_id": "c1", "action": {"commands": ["ls"]}, "status": "completed"},
    {
        "type": "shell_call_output",
        "call_id": "c1",
        "output": [{"stdout": "x", "stderr": "", "outcome": OUTCOME}],
    },
    {"type": "mcp_call", "id": "mcp_1", "name": "n", "server_label": "s", "arguments": "{}"},
    {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": PNG},
]
ANTHROPIC: list[JSON] = [
    {"role": "user", "content": "q"},
    {"role": "system", "content": "s"},
    {"role": "system", "content": [{"type": "text", "text": "s", "cache_control": EPHEMERAL}]},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "t", "citations": None},
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": PNG},
            },
            {
                "type": "document",
                "title": "T",
                "context": "c",
                "source": {"type": "text", "media_type": "text/plain", "data": "d"},
                "citations": {"enabled": True},
            },
        ],
    },
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "t", "signature": "sig"},
            {"type": "text", "text": "a"},
            {**USE, "caller": {"type": "direct"}},
        ],
        "id": "msg_1",
        "type": "message",
        "model": "m",
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    },
    {
        "role": "user",
        "content": [
            {
                "type": "tool_result",
                "tool_use_id": "toolu_1",
                "content": [{"type": "text", "text": "r"}],
                "is_error": False,
                "cache_control": EPHEMERAL,
            }
        ],
    },
    {
        "role": "user",
        "content": [
            {
                "type": "search_result",
                "source": "s",
                "title": "t",
                "content": [{"type": "text", "text": "x"}],
                "citations": {"enabled": True},
            }
        ],
    },
]
GEMINI: list[JSON] = [
    {"role": "user", "parts": [{"text": "q"}]},
    {
        "role": "user",
        "parts": [
            {"inlineData": {"mimeType": "image/png", "data": PNG, "displayName": "d"}},
            {"fileData": {"fileUri": "https://e.com/x", "mimeType": "image/png"}},
        ],
    },
    {
        "role": "model",
        "parts": [
            {"text": "th", "thought": True},
            {"text": "a", "thoughtSignature": "c2ln"},
            {"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}},
        ],
    },
    {
        "role": "user",
        "parts": [
            {
                "functionResponse": {
                    "id": "c1",
                    "name": "f",
                    "response": {"r": 1},
                    "scheduling": "SILENT",
                    "willContinue": False,
                    "parts": [{"inlineData": {"mimeType": "image/png", "data": PNG}}],
                }
            }
        ],
    },
    {
        "role": "model",
        "parts": [
            {"executableCode": {"language": "PYTHON", "code": "c"}},
            {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "o"}},
        ],
    },
    {
        "role": "user",
        "parts": [
            {
                "text": "v",
                "videoMetadata": {"fps": 1.0, "startOffset": "1s"},
                "mediaResolution": {"level": "MEDIA_RESOLUTION_LOW"},
            }
        ],
    },
]
BASES = {FORMAT_OPENAI: OPENAI, FORMAT_ANTHROPIC: ANTHROPIC, FORMAT_GEMINI: GEMINI}
# The messages before the tested message: a prompt, and calls. It may have the calls' results.
LEADS: dict[int, list[JSON]] = {
    FORMAT_OPENAI: [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
    ],
    FORMAT_ANTHROPIC: [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [USE]},
    ],
    FORMAT_GEMINI: [
        {"role": "user", "parts": [{"text": "hi"}]},
        {"role": "model", "parts": [{"functionCall": {"id": "c1", "name": "f", "args": {}}}]},
    ],
}
VALUES = ({"m": MARK}, [{"m": MARK}])


def variants(value: Any) -> Iterator[Any]:
    """Yield copies of a value, each with a marked value in another place."""
    if isinstance(value, dict):
        for marked in (VALUES[0], MARK):
            yield {**value, "x_new": marked}
        for key, item in value.items():
            for replaced in (*VALUES, *variants(item)):
                yield {**value, key: replaced}
    elif isinstance(value, list):
        for place, item in enumerate(value):
            for replaced in variants(item):
                yield [*value[:place], replaced, *value[place + 1 :]]


def admitted(value: JSON, format_: int) -> Message | None:
    """Return a message as it is stored; None if it is refused."""
    try:
        message = as_message(value, format_)
        schemas.CHECKS[format_](json.loads(message.json))
    except (Fault, SchemaError):
        return None
    return message


CASES = [
    pytest.param(format_, base, id=f"{format_}-{place}")
    for format_, bases in BASES.items()
    for place, base in enumerate(bases)
]


@pytest.mark.parametrize(("format_", "base"), CASES)
def test_every_admitted_value_is_sent_or_reported(format_: int, base: JSON) -> None:
    assert admitted(base, format_)
    lost: set[tuple[str, str]] = set()
    for value in variants(base):
        message = admitted(value, format_)
        if message is None:
            continue
        messages = [*(as_message(each, format_) for each in LEADS[format_]), message]
        for seq, each in enumerate(messages, 1):
            each.seq = seq
        for name, dialect in DIALECTS.items():
            request, body = dialect.send(messages)
            is_sent = MARK in json.dumps(body)
            if not is_sent and not request.report.of(len(messages)):
                lost.add((name, json.dumps(value)))
    assert not lost
