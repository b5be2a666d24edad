"""The text of messages of every type, however odd: `content` never raises."""

import json
import typing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond import Message, NewMessage
from sessiond._requests.input import to_proto
from sessiond.v1 import message_pb2
from sessiond.v1.message_pb2 import Part, ToolResult


def text_of(blob: Any, format: str = "openai") -> str:
    return Message("s", to_proto(json.dumps(blob), format, "m")).content


PIECES = [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "u"}]

ITEMS: dict[str, tuple[dict[str, Any], str]] = {
    "message": ({"role": "assistant", "content": [{"type": "output_text", "text": "a"}]}, "a"),
    "function_call": ({"name": "f", "arguments": "{}"}, ""),
    "function_call_output": ({"output": "a"}, "a"),
    "custom_tool_call": ({"name": "f", "input": "x"}, ""),
    "custom_tool_call_output": ({"output": PIECES}, "a"),
    "computer_call": ({"action": {"type": "click"}}, ""),
    "computer_call_output": ({"output": {"type": "computer_screenshot", "image_url": "u"}}, ""),
    "local_shell_call": ({"action": {"type": "exec"}}, ""),
    "local_shell_call_output": ({"output": "a"}, "a"),
    "shell_call": ({"action": {"commands": ["ls"]}}, ""),
    "shell_call_output": ({"output": [{"stdout": "a", "stderr": "b", "outcome": {}}]}, "ab"),
    "apply_patch_call": ({"operation": {"type": "delete_file"}}, ""),
    "apply_patch_call_output": ({"output": None, "status": "failed"}, ""),
    "web_search_call": ({"action": {"type": "search", "query": "x"}}, ""),
    "file_search_call": ({"queries": ["x"], "results": None}, ""),
    "code_interpreter_call": ({"code": "1", "outputs": [{"type": "logs", "logs": "a"}]}, "a"),
    "image_generation_call": ({"result": "AAAA"}, ""),
    "mcp_call": ({"name": "f", "arguments": "{}", "output": "a"}, "a"),
    "mcp_list_tools": ({"tools": []}, ""),
    "mcp_approval_request": ({"name": "f", "arguments": "{}"}, ""),
    "mcp_approval_response": ({"approve": True}, ""),
    "reasoning": ({"summary": [{"type": "summary_text", "text": "hm"}]}, ""),
    "compaction": ({"encrypted_content": "x"}, ""),
    "compaction_trigger": ({}, ""),
    "item_reference": ({"id": "i"}, ""),
    "program": ({"code": "x"}, ""),
    "program_output": ({"result": "a"}, "a"),
    "tool_search_call": ({"arguments": {}}, ""),
    "tool_search_output": ({"tools": []}, ""),
    "additional_tools": ({"tools": []}, ""),
    "configuration_update": ({}, ""),
    "an_item_of_next_year": ({"output": {"deep": [1]}}, ""),
    "an_output_of_next_year_output": ({"output": "a"}, "a"),
}


@pytest.mark.parametrize("kind", ITEMS)
def test_items_of_the_responses_api(kind: str) -> None:
    item, text = ITEMS[kind]
    assert text_of({"type": kind, **item}) == text


def test_no_item_of_the_sdk_is_missing_above() -> None:
    types = pytest.importorskip("openai.types.responses")
    kinds: set[str] = set()
    for member in typing.get_args(types.ResponseInputItemParam):
        hints = typing.get_type_hints(member) if isinstance(member, type) else {}
        kinds.update(text for text in typing.get_args(hints.get("type")) if isinstance(text, str))
    assert len(kinds) > 25
    assert kinds <= ITEMS.keys()


@pytest.mark.parametrize(
    ("format", "blob", "text"),
    [
        ("openai", {"role": "user", "content": "Hi"}, "Hi"),
        ("openai", {"role": "assistant", "content": None, "tool_calls": []}, ""),
        (
            "openai",
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "image_url"},
                    {"type": "text", "text": "b"},
                ],
            },
            "ab",
        ),
        (
            "openai",
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "out"}],
            },
            "out",
        ),
        ("openai", {"type": "function_call_output", "call_id": "c", "output": "42"}, "42"),
        ("openai", {"type": "function_call", "name": "f", "arguments": "{}"}, ""),
        ("openai", {"role": "user", "content": 5}, ""),
        ("anthropic", {"role": "user", "content": "Hi"}, "Hi"),
        (
            "anthropic",
            {
                "role": "assistant",
                "content": [{"type": "thinking", "thinking": "?"}, {"type": "text", "text": "x"}],
            },
            "x",
        ),
        ("anthropic", {"role": "user", "content": [{"type": "tool_result", "content": "r"}]}, ""),
        (
            "gemini",
            {
                "role": "model",
                "parts": [
                    {"text": "a"},
                    {"text": "hm", "thought": True},
                    {"functionCall": {}},
                    {"text": "b"},
                ],
            },
            "ab",
        ),
        ("gemini", {"role": "model"}, ""),
        ("openai", {"role": "assistant", "content": None, "refusal": "No."}, "No."),
        (
            "openai",
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
            "No.",
        ),
        ("openai", {"role": "tool", "content": [{"type": "text", "text": "a"}]}, "a"),
        ("openai", {"role": "user", "content": [{"type": {"a": 1}}, {"type": ["text"]}, 1]}, ""),
        ("openai", {"role": "user", "content": [{"type": "text", "text": 5}]}, ""),
        ("openai", {"type": ["function_call_output"], "output": "a"}, ""),
        ("openai", {"role": None, "type": "function_call_output", "output": "a"}, "a"),
        ("openai", {"content": "a"}, "a"),
        ("anthropic", {"role": "user", "content": [{"type": {}}, None, "x"]}, ""),
        ("gemini", {"role": "user", "parts": [{"functionResponse": {"response": {"a": 1}}}]}, ""),
        (
            "gemini",
            {"role": "tool", "parts": [{"functionResponse": {"response": {"a": 1}}}]},
            '{"a": 1}',
        ),
        (
            "gemini",
            {"role": "tool", "parts": [{"functionResponse": {"response": {"result": "a"}}}]},
            "a",
        ),
        (
            "gemini",
            {"role": "function", "parts": [{"function_response": {"response": {"output": "a"}}}]},
            "a",
        ),
        ("gemini", {"role": "model", "parts": [None, {"text": 5}, {"text": "a"}]}, "a"),
        ("gemini", {"role": "model", "parts": {"text": "a"}}, "a"),
    ],
)
def test_the_text_of_a_message(format: str, blob: Any, text: str) -> None:
    message = Message("s", to_proto(json.dumps(blob), format, "m"))
    assert message.content == message.data.content == message["data"]["content"] == text
    assert message.blob == blob
    assert message.format == format


def test_a_tools_typed_parts_are_the_results_text() -> None:
    parts = [Part(tool_result=ToolResult(call_id="c", parts=[Part(text="a"), Part(data="{}")]))]
    for role, text in (("tool", "a"), ("user", "")):
        message = Message("s", to_proto(NewMessage(parts=parts, role=role), "openai", "m"))
        assert message.content == text


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "text",
                    "content",
                    "output",
                    "parts",
                    "role",
                    "refusal",
                    "functionResponse",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(
    st.dictionaries(st.text(), VALUES) | VALUES, st.sampled_from(["openai", "anthropic", "gemini"])
)
def test_no_object_makes_it_raise(blob: Any, format: str) -> None:
    assert isinstance(text_of(blob, format), str)


@pytest.mark.parametrize("levels", [200, 1000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_deep_json_is_read(levels: int, opening: str, closing: str) -> None:
    text = f'{{"role":"user","x":{opening * levels}1{closing * levels},"content":"Hi"}}'
    pb = message_pb2.Message(json=text, format=message_pb2.FORMAT_OPENAI)
    assert Message("s", pb).content == "Hi"
