"""The `content` of messages of other programs is their text."""

import json
from typing import Any

import pytest

from sessiond import Message
from sessiond.v1 import message_pb2

TEXT = [
    {"type": "text", "text": "a"},
    {"type": "tool_use", "name": "t"},
    {"type": "text", "text": "b"},
]
RESULT = [{"type": "tool_result", "content": [{"type": "text", "text": "21"}]}]


@pytest.mark.parametrize(
    ("format_name", "blob", "text"),
    [
        ("claude-code", {"type": "assistant", "message": {"content": TEXT}}, "ab"),
        ("claude-code", {"type": "user", "message": {"content": RESULT}}, "21"),
        ("claude-code", {"type": "summary", "summary": "About tea"}, "About tea"),
        ("claude-code", {"type": "attachment", "attachment": {"prompt": "go on"}}, "go on"),
        ("claude-code", {"type": "file-history-snapshot", "snapshot": {}}, ""),
        (
            "codex",
            {
                "type": "response_item",
                "payload": {
                    "type": "message",
                    "role": "user",
                    "content": [{"type": "input_text", "text": "hi"}],
                },
            },
            "hi",
        ),
        ("codex", {"type": "message", "role": "user", "content": "hi"}, "hi"),
        ("codex", {"type": "event_msg", "payload": {"type": "agent_message", "message": "x"}}, "x"),
        ("openai-agents", {"role": "user", "content": "hi"}, "hi"),
        ("openai-agents", {"type": "function_call_output", "output": "21"}, "21"),
        ("openai-agents", {"__enc__": 1, "payload": "gAAAA"}, ""),
        (
            "pydantic-ai",
            {
                "kind": "response",
                "parts": [
                    {"part_kind": "thinking", "content": "hm"},
                    {"part_kind": "text", "content": "21"},
                    {"part_kind": "tool-call", "args": "{}"},
                ],
            },
            "21",
        ),
        (
            "pydantic-ai",
            {"message": {"kind": "request", "parts": [{"content": ["a", {"kind": "binary"}]}]}},
            "a",
        ),
        ("strands", {"message": {"content": [{"text": "a"}, {"toolUse": {}}]}}, "a"),
        ("strands", {"content": [{"toolResult": {"content": [{"text": "21"}]}}]}, "21"),
        (
            "strands",
            {
                "message": {"content": [{"text": "a"}]},
                "redact_message": {"content": [{"text": "b"}]},
            },
            "b",
        ),
        ("langchain", {"type": "ai", "data": {"content": TEXT}}, "ab"),
        ("langchain", {"lc": 1, "kwargs": {"content": "a"}}, "a"),
        ("openai-export", {"id": "n", "message": {"content": {"parts": ["a", {"x": 1}]}}}, "a"),
        ("openai-export", {"id": "n", "message": None}, ""),
        ("sharegpt", {"from": "gpt", "value": "a"}, "a"),
        ("bad-line", {"line": 1, "reason": "r", "text": "{half"}, "{half"),
        ("our-agent", {"content": "a"}, ""),
    ],
)
def test_content_is_the_text_of_the_message(
    format_name: str, blob: dict[str, Any], text: str
) -> None:
    proto = message_pb2.Message(
        seq=1,
        format=message_pb2.FORMAT_OTHER,
        format_name=format_name,
        json=json.dumps(blob),
    )
    assert Message("s", proto).content == text


@pytest.mark.parametrize(
    "format_name",
    [
        *("claude-code", "codex", "openai-agents", "pydantic-ai", "strands", "langchain"),
        *("openai-export", "sharegpt", "bad-line"),
    ],
)
@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"message": 1, "payload": [], "parts": 2, "content": {"a": 1}, "data": "x", "value": 3}',
        '{"message": {"content": [1, {"type": 2}], "parts": {}}, "payload": {"type": []}}',
        '{"kind": 1, "parts": [1, {"content": {"a": 1}}], "attachment": {"prompt": 1}}',
    ],
)
def test_odd_messages_have_a_text(format_name: str, text: str) -> None:
    proto = message_pb2.Message(format=message_pb2.FORMAT_OTHER, format_name=format_name, json=text)
    assert isinstance(Message("s", proto).content, str)
