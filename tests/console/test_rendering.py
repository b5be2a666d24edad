"""Messages of every format as blocks."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessiond import Message
from sessiond.v1 import message_pb2 as pb
from sessiond_console.rendering.blocks import every_block
from sessiond_console.rendering.messages import (
    PAGE_TEXT_CHARACTERS,
    Budget,
    Shown,
    blocks_of,
    fold,
    inline_file,
    shown,
)
from sessiond_console.rendering.text import MAX_TEXT_CHARACTERS

PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA"
    "AABJRU5ErkJggg=="
)
FORMATS = {
    "openai": pb.FORMAT_OPENAI,
    "anthropic": pb.FORMAT_ANTHROPIC,
    "gemini": pb.FORMAT_GEMINI,
}
ROLES = {
    "user": pb.ROLE_USER,
    "assistant": pb.ROLE_ASSISTANT,
    "tool": pb.ROLE_TOOL,
    "model": pb.ROLE_ASSISTANT,
}


def message(value: dict[str, Any], format_name: str = "openai", seq: int = 1) -> Message:
    role = ROLES.get(str(value.get("role")), pb.ROLE_ASSISTANT)
    format_ = FORMATS[format_name]
    stored = pb.Message(seq=seq, role=role, format=format_, json=json.dumps(value))
    return Message("s", stored)


def kinds(one: Message) -> list[str]:
    return [block.kind for block in blocks_of(one)]


def test_chat_messages_have_text_reasoning_calls_files_and_refusals() -> None:
    one = message(
        {
            "role": "assistant",
            "reasoning_content": "think",
            "content": [
                {"type": "text", "text": "**hi**"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
                {"type": "file", "file": {"file_id": "file-1", "filename": "a.pdf"}},
            ],
            "refusal": "no",
            "annotations": [
                {"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "A"}}
            ],
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
                {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "raw"}},
            ],
        }
    )
    blocks = blocks_of(one)
    assert [block.kind for block in blocks] == [
        *("reasoning", "text", "file", "file", "file"),
        *("refusal", "citation", "call", "call"),
    ]
    assert blocks[1].is_markdown
    assert (blocks[7].name, blocks[7].call_id, blocks[7].text) == ("f", "c1", '{\n  "a": 1\n}')
    assert (blocks[8].name, blocks[8].text) == ("g", "raw")


def test_items_of_the_responses_api_are_read() -> None:
    item = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    [call] = blocks_of(message(item))
    assert (call.kind, call.name, call.call_id) == ("call", "f", "c")
    [result] = blocks_of(message({"type": "function_call_output", "call_id": "c", "output": "42"}))
    assert (result.kind, result.call_id, result.text) == ("result", "c", "42")
    [reasoning] = blocks_of(
        message({"type": "reasoning", "summary": [{"type": "summary_text", "text": "why"}]})
    )
    assert (reasoning.kind, reasoning.text) == ("reasoning", "why")
    [code] = blocks_of(
        message(
            {
                "type": "code_interpreter_call",
                "id": "ci",
                "code": "1+1",
                "outputs": [{"type": "logs", "logs": "2"}],
            }
        )
    )
    assert (code.text, code.results[0].text) == ("1+1", "2")


def test_anthropic_blocks_are_read() -> None:
    one = message(
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "hi", "citations": [{"cited_text": "q", "url": "u"}]},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
                {"type": "image", "source": {"type": "base64", "data": PNG}},
                {"type": "redacted_thinking", "data": "x"},
            ],
        },
        "anthropic",
    )
    assert kinds(one) == ["reasoning", "text", "citation", "call", "file", "reasoning"]
    result = {"type": "tool_result", "tool_use_id": "t", "content": "bad", "is_error": True}
    [block] = blocks_of(message({"role": "user", "content": [result]}, "anthropic"))
    assert (block.kind, block.call_id, block.is_error, block.text) == ("result", "t", True, "bad")


def test_gemini_parts_are_read() -> None:
    one = message(
        {
            "role": "model",
            "parts": [
                {"text": "hm", "thought": True},
                {"text": "hi"},
                {"functionCall": {"name": "f", "args": {"a": 1}}},
                {"inlineData": {"mimeType": "image/png", "data": PNG}},
                {"executableCode": {"language": "PYTHON", "code": "1"}},
                {"codeExecutionResult": {"outcome": "OUTCOME_FAILED", "output": "no"}},
            ],
        },
        "gemini",
    )
    assert kinds(one) == ["reasoning", "text", "call", "file", "call", "result"]
    assert blocks_of(one)[-1].is_error


def test_typed_parts_are_read() -> None:
    stored = pb.Message(seq=1, role=pb.ROLE_TOOL)
    parts = stored.parts.parts
    parts.add().text = "plain"
    parts.add().tool_call.CopyFrom(pb.ToolCall(call_id="c", name="f", arguments_json='{"a":1}'))
    result = parts.add().tool_result
    result.call_id = "c"
    result.parts.add().text = "out"
    result.parts.add().image.inline = b"\x89PNG\r\n\x1a\nrest"
    parts.add().data = '{"x":1}'
    one = Message("s", stored)
    assert kinds(one) == ["text", "call", "result", "other"]
    assert not blocks_of(one)[0].is_markdown
    found = inline_file(one, 0)
    assert found
    assert found[1].startswith(b"\x89PNG")


def test_results_are_folded_into_the_calls_that_they_answer() -> None:
    calls = [{"id": f"c{i}", "function": {"name": "f", "arguments": "{}"}} for i in range(2)]
    page = [
        shown(message({"role": "assistant", "content": None, "tool_calls": calls}), Budget()),
        shown(message({"role": "tool", "tool_call_id": "c1", "content": "b"}, seq=2), Budget()),
        shown(message({"role": "tool", "tool_call_id": "c0", "content": "a"}, seq=3), Budget()),
        shown(message({"role": "tool", "tool_call_id": "c9", "content": "z"}, seq=4), Budget()),
    ]
    fold(page)
    first, second = page[0].blocks
    assert [(one.text, one.seq) for one in first.results] == [("a", 3)]
    assert [(one.text, one.seq) for one in second.results] == [("b", 2)]
    assert [one.is_folded for one in page] == [False, True, True, False]
    assert page[3].blocks[0].text == "z"


def test_a_page_of_long_texts_stays_small() -> None:
    budget = Budget()
    page: list[Shown] = []
    for seq in range(1, 101):
        long = message({"role": "user", "content": "x" * 200_000}, seq=seq)
        page.append(shown(long, budget))
    texts = [len(block.text) for one in page for block in every_block(one.blocks)]
    assert texts[0] == MAX_TEXT_CHARACTERS
    assert sum(texts) < PAGE_TEXT_CHARACTERS + 100 * 2048 + MAX_TEXT_CHARACTERS
    assert all(one.blocks[0].omitted for one in page)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("type", "role", "content", "text", "parts", "tool_calls", "function", "id"),
                    *("name", "arguments", "image_url", "url", "source", "data", "summary"),
                    *("functionCall", "functionResponse", "response", "inlineData", "output"),
                    *("citations", "annotations", "refusal", "audio", "input", "results"),
                ]
            ),
            inner
            | st.sampled_from(
                [
                    *("text", "tool_use", "tool_result", "image", "image_url", "file", "refusal"),
                    *("function_call", "function_call_output", "reasoning", "web_search_call"),
                    *("thinking", "document", "search_result", "message", "input_image"),
                ]
            ),
            max_size=6,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("format_name", FORMATS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    value=st.dictionaries(
        st.sampled_from(
            ["role", "type", "content", "parts", "tool_calls", "output", "annotations"]
        ),
        json_values,
    )
)
def test_readers_accept_any_json(format_name: str, value: dict[str, Any]) -> None:
    for block in every_block(blocks_of(message(value, format_name))):
        assert isinstance(block.text, str)
        assert isinstance(block.name, str)
        assert isinstance(block.call_id, str)
        assert isinstance(block.uri, str)
