"""The choice of a window: no call without its results, no result without its call."""

import os
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_GEMINI,
    FORMAT_OPENAI,
    ROLE_ASSISTANT,
    ROLE_TOOL,
    Message,
    Part,
    Parts,
    ToolCall,
    ToolResult,
)
from sessiond_server.formats.pairing import Answer, pair
from sessiond_server.formats.read import read
from sessiond_server.formats.report import Report
from sessiond_server.turns.requests.window import (
    TaskSearch,
    WindowLimits,
    fitting,
    is_instruction,
    window_size,
)

from ..formats.histories import as_message, histories
from ..formats.program_histories import other_message

EXAMPLES = int(os.environ.get("EXAMPLES", "300"))


def pairs_of(messages: Sequence[Message]) -> set[tuple[int, int]]:
    """Return, for each call, its seq and the seq of its result. 0 = it has no result."""
    return {
        (call.entry.seq, call.result_entry.seq if call.result_entry else 0)
        for step in pair([read(message) for message in messages], Report())
        if isinstance(step, Answer)
        for call in step.calls
    }


def window_of(messages: Sequence[Message], size: int, taken: int) -> list[Message]:
    """Return the window. Read `taken` messages first, and more until they are enough."""
    newest_first, found = list(reversed(messages)), None
    while found is None:
        found = window_size(newest_first[:taken], size, is_whole=taken >= len(messages))
        taken += 1
    return list(messages[len(messages) - found :])


@given(histories(max_size=14), st.data())
@settings(max_examples=EXAMPLES, deadline=None)
def test_random_windows_separate_no_call_from_its_result(
    messages: list[Message], data: st.DataObject
) -> None:
    least = fitting(reversed(messages), WindowLimits(1, 0, 1))
    size = data.draw(st.integers(least, len(messages)))
    window = window_of(messages, size, data.draw(st.integers(size, len(messages))))
    first = window[0].seq
    expected = {(call, result) for call, result in pairs_of(messages) if call >= first}
    assert pairs_of(window) == expected
    assert all(call >= first for call, result in pairs_of(messages) if result >= first)
    # The window depends only on the history, not on the size of the first read.
    assert window == window_of(messages, size, len(messages))
    newest = [message for message in messages if not is_instruction(message)]
    assert not newest or newest[-1] in window


@pytest.mark.parametrize("first_hidden", [1, 2])
def test_a_hidden_message_does_not_end_an_answer(first_hidden: int) -> None:
    """Codex writes its events between the items of an answer. No model is given them."""

    def item(payload: dict[str, Any]) -> Message:
        return other_message({"type": "response_item", "payload": payload}, "codex")

    def call(call_id: str) -> Message:
        return item({"type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}"})

    def result(call_id: str) -> Message:
        return item({"type": "function_call_output", "call_id": call_id, "output": "1"})

    event = other_message(
        {"type": "event_msg", "payload": {"type": "user_message", "message": "x"}}, "codex"
    )
    messages = [call("a"), call("b"), result("a"), result("b")]
    messages.insert(first_hidden, event)
    for seq, message in enumerate(messages, 1):
        message.seq = seq
    for size in range(1, 6):
        for taken in range(size, 6):
            assert window_of(messages, size, taken) == messages


def chat(role: str, content: str | None = None, **fields: Any) -> Message:
    return as_message({"role": role, "content": content, **fields}, FORMAT_OPENAI)


def item(**fields: Any) -> Message:
    return as_message(fields, FORMAT_OPENAI)


def chat_call(*ids: str) -> Message:
    calls = [
        {"id": id_, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id_ in ids
    ]
    return chat("assistant", tool_calls=calls)


def anthropic(role: str, *blocks: dict[str, Any]) -> Message:
    return as_message({"role": role, "content": list(blocks)}, FORMAT_ANTHROPIC)


def gemini(role: str, *parts: dict[str, Any]) -> Message:
    return as_message({"role": role, "parts": list(parts)}, FORMAT_GEMINI)


TOOL_USES = {
    "chat": [
        chat_call("a", "b"),
        chat("tool", "1", tool_call_id="a"),
        chat("tool", "2", tool_call_id="b"),
    ],
    "responses": [
        item(type="reasoning", id="rs", summary=[], encrypted_content="x"),
        item(type="function_call", call_id="a", name="f", arguments="{}"),
        item(type="function_call", call_id="b", name="f", arguments="{}"),
        item(type="function_call_output", call_id="a", output="1"),
        item(type="function_call_output", call_id="b", output="2"),
    ],
    "anthropic": [
        anthropic("assistant", {"type": "tool_use", "id": "a", "name": "f", "input": {}}),
        anthropic("user", {"type": "tool_result", "tool_use_id": "a", "content": "1"}),
    ],
    "gemini": [
        gemini("model", *[{"functionCall": {"name": "f", "args": {}}}] * 2),
        gemini("user", {"functionResponse": {"name": "f", "response": {"r": 1}}}),
        gemini("user", {"functionResponse": {"name": "f", "response": {"r": 2}}}),
    ],
    "parts": [
        Message(
            role=ROLE_ASSISTANT,
            parts=Parts(parts=[Part(tool_call=ToolCall(call_id="a", name="f"))]),
        ),
        Message(role=ROLE_TOOL, parts=Parts(parts=[Part(tool_result=ToolResult(call_id="a"))])),
    ],
}


def numbered(*messages: Message) -> list[Message]:
    """Return copies of messages with their seqs."""
    copies = [Message.FromString(message.SerializeToString()) for message in messages]
    for seq, message in enumerate(copies, 1):
        message.seq = seq
    return copies


@pytest.mark.parametrize("name", TOOL_USES)
def test_a_window_begins_before_or_after_the_use_of_a_tool(name: str) -> None:
    use = TOOL_USES[name]
    question, done = chat("user", "q"), chat("assistant", "done")
    history = numbered(question, *use, done, chat("user", "thanks"))
    for size in range(1, len(history) + 1):
        window = window_of(history, size, size)
        inside = 2 < size < len(use) + 2
        assert len(window) == (2 if inside else size)
    # While the tool loop runs, all of its messages are in the window.
    history = numbered(question, *use)
    for size in range(1, len(use) + 1):
        assert window_of(history, size, size) == history[1:]


def test_instructions_between_a_call_and_its_result_do_not_separate_them() -> None:
    call, *results = TOOL_USES["chat"]
    history = numbered(chat("user", "q"), call, chat("system", "be short"), *results)
    assert [message.seq for message in window_of(history, 1, 1)] == [2, 3, 4, 5]


def test_instructions_do_not_count() -> None:
    messages = [chat("user", "a"), chat("system", "s"), chat("assistant", "b"), chat("developer")]
    assert fitting(reversed(messages), WindowLimits(1, 0, 0.5)) == 3
    assert fitting(reversed(messages), WindowLimits(2, 0, 0.5)) == 4


@pytest.mark.parametrize(
    ("limits", "lowered"),
    [
        (WindowLimits(10, 0, 0.5), WindowLimits(5, 0, 0.5)),
        (WindowLimits(1, 3, 0.1), WindowLimits(1, 1, 0.1)),
        (WindowLimits(0, 100, 1), WindowLimits(0, 100, 1)),
    ],
)
def test_limits_are_lowered_to_at_least_one(limits: WindowLimits, lowered: WindowLimits) -> None:
    assert limits.lowered == lowered


def task_of(*messages: Message) -> int:
    search = TaskSearch()
    for message in reversed(numbered(*messages)):
        search.add(message)
    search.end()
    return search.seq


def test_the_task_is_the_message_that_started_the_running_loop() -> None:
    user, done = chat("user", "u"), chat("assistant", "done")
    for use in TOOL_USES.values():
        loop = [*use, *use]
        assert task_of(user, *loop) == 1
        assert task_of(user, done, user, *loop) == 3
        assert task_of(user, user, *loop, user) == 2, "what steers a loop does not start it"
        assert task_of(user, *use, user, *use) == 1
        assert task_of(user, *loop, done) == 0
        assert task_of(user, *loop, done, user) == 0
        assert task_of(*loop) == 0
        assert task_of(user, chat("system", "s"), *loop) == 1
    assert task_of(user, user) == 0
