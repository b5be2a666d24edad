"""Messages of agents' programs and frameworks, as blocks."""

import json
from pathlib import Path
from typing import Any

import pytest

from sessiond import Message
from sessiond.v1 import message_pb2
from sessiond_console.rendering.blocks import every_block
from sessiond_console.rendering.messages import blocks_of, files_of

FILES = Path(__file__).parents[1] / "imports" / "transcripts"
PNG = "iVBORw0KGgo+/w=="
NAMES = (
    *("claude-code", "codex", "openai-agents", "pydantic-ai", "strands", "langchain"),
    *("openai-export", "sharegpt", "bad-line"),
)


def message(blob: Any, format_name: str, role: str = "user") -> Message:
    proto = message_pb2.Message(
        seq=1,
        role=message_pb2.Role.Value(f"ROLE_{role.upper()}"),
        format=message_pb2.FORMAT_OTHER,
        format_name=format_name,
        json=blob if isinstance(blob, str) else json.dumps(blob),
    )
    return Message("s", proto)


def shown(blob: Any, format_name: str, role: str = "user") -> list[tuple[str, str]]:
    """Return the kinds and texts of all blocks but the last, which is the whole message."""
    *blocks, whole = blocks_of(message(blob, format_name, role))
    assert (whole.kind, whole.name) == ("other", "whole message")
    return [(block.kind, block.text) for block in blocks]


CALL = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}


@pytest.mark.parametrize(
    ("format_name", "role", "blob", "blocks"),
    [
        (
            "claude-code",
            "user",
            {
                "type": "user",
                "message": {
                    "content": [{"type": "tool_result", "tool_use_id": "t", "content": "21"}]
                },
            },
            [("result", "21")],
        ),
        ("codex", "assistant", {"type": "response_item", "payload": CALL}, [("call", "{}")]),
        ("openai-agents", "assistant", CALL, [("call", "{}")]),
        ("openai-agents", "user", {"role": "user", "content": "hi"}, [("text", "hi")]),
        (
            "pydantic-ai",
            "assistant",
            {
                "kind": "response",
                "parts": [
                    {"part_kind": "thinking", "content": "hm"},
                    {"part_kind": "text", "content": "a"},
                    {"part_kind": "tool-call", "tool_name": "look", "args": "{}"},
                ],
            },
            [("reasoning", "hm"), ("text", "a"), ("call", "{}")],
        ),
        (
            "pydantic-ai",
            "user",
            {
                "kind": "request",
                "parts": [
                    {"part_kind": "system-prompt", "content": "s"},
                    {
                        "part_kind": "user-prompt",
                        "content": ["a", {"kind": "image-url", "url": "https://example.com/a.png"}],
                    },
                    {"part_kind": "tool-return", "tool_name": "look", "content": "21"},
                ],
            },
            [("text", "s"), ("text", "a"), ("file", ""), ("result", "21")],
        ),
        (
            "strands",
            "assistant",
            {
                "message": {
                    "role": "assistant",
                    "content": [
                        {"text": "a"},
                        {"reasoningContent": {"reasoningText": {"text": "hm"}}},
                        {"toolUse": {"toolUseId": "t", "name": "look", "input": "x"}},
                    ],
                }
            },
            [("text", "a"), ("reasoning", "hm"), ("call", "x")],
        ),
        (
            "strands",
            "user",
            {
                "content": [
                    {"toolResult": {"toolUseId": "t", "content": [{"text": "21"}]}},
                    {"image": {"format": "png", "source": {"bytes": {"data": PNG}}}},
                ]
            },
            [("result", "21"), ("file", "")],
        ),
        (
            "langchain",
            "assistant",
            {"type": "ai", "data": {"content": "a", "tool_calls": [{"name": "look", "args": "x"}]}},
            [("text", "a"), ("call", "x")],
        ),
        ("langchain", "tool", {"type": "tool", "data": {"content": "21"}}, [("result", "21")]),
        (
            "openai-export",
            "assistant",
            {"message": {"recipient": "python", "content": {"text": "1 + 1"}}},
            [("call", "1 + 1")],
        ),
        (
            "openai-export",
            "user",
            {"message": {"content": {"content_type": "text", "parts": ["a"]}}},
            [("text", "a")],
        ),
        ("sharegpt", "user", {"from": "human", "value": "a"}, [("text", "a")]),
        ("sharegpt", "tool", {"from": "tool", "value": "21"}, [("result", "21")]),
    ],
)
def test_what_a_message_says_is_shown_before_the_whole_message(
    format_name: str, role: str, blob: dict[str, Any], blocks: list[tuple[str, str]]
) -> None:
    assert shown(blob, format_name, role) == blocks


def test_a_note_of_a_program_is_shown_as_it_is() -> None:
    note = {"type": "file-history-snapshot", "snapshot": {}}
    [block] = blocks_of(message(note, "claude-code", "other"))
    assert (block.kind, block.name) == ("other", "claude-code")


def test_a_file_of_a_framework_can_be_opened() -> None:
    url_safe = PNG.replace("+", "-").replace("/", "_")
    image = {"kind": "binary", "media_type": "image/png", "data": url_safe}
    blob = {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": [image]}]}
    [file] = files_of(blocks_of(message(blob, "pydantic-ai")))
    assert (file.kind, file.media_type, file.data) == ("image", "image/png", PNG)


@pytest.mark.parametrize("name", ["claude-code", "codex"])
def test_every_line_of_a_transcript_has_a_block(name: str) -> None:
    for path in (FILES / name).rglob("*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert blocks_of(message(line, name))


@pytest.mark.parametrize("format_name", NAMES)
@pytest.mark.parametrize("role", ["user", "assistant", "tool", "other"])
@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"message": 1, "payload": [], "parts": 2, "content": {"a": 1}, "data": "x", "value": 3}',
        '{"message": {"content": [1, {"type": 2}], "parts": {}}, "payload": {"type": []}}',
        '{"kind": 1, "parts": [1, {"content": {"a": 1}}, {"part_kind": []}], "from": 1}',
        '{"content": [1, {"toolResult": 1}, {"image": 2}, {"toolUse": "x"}], "data": {"a": 1}}',
        '{"type": 1, "role": 2, "kwargs": {"tool_calls": [1]}, "author": 1}',
    ],
)
def test_readers_accept_any_json(format_name: str, role: str, text: str) -> None:
    for block in every_block(blocks_of(message(text, format_name, role))):
        assert isinstance(block.text, str)
