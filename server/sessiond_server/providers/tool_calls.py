"""Pairs tool calls with their results, as providers require: each result directly after its call.

Stored histories differ: a prompt arrives while a tool still runs, a result is stored late or never,
or a part of the history is left out. The stored history stays as it is. Only the request is
repaired, because the provider would reject it and all later ones.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

JSON: TypeAlias = dict[str, Any]
NO_RESULT = "(There is no result.)"


def openai_calls(message: JSON) -> list[str]:
    """Return the ids of the calls in a Chat Completions message."""
    calls = message.get("tool_calls")
    return (
        [str(call.get("id")) for call in calls if isinstance(call, dict)]
        if isinstance(calls, list)
        else []
    )


def anthropic_calls(message: JSON) -> list[str]:
    """Return the ids of the calls in a message of the Messages API."""
    return [str(block.get("id")) for block in _blocks(message) if block.get("type") == "tool_use"]


def pair_tool_calls_openai(messages: Sequence[JSON]) -> list[JSON]:
    """Repair the messages of a Chat Completions request. Valid ones stay as they are."""
    used: set[int] = set()
    repaired: list[JSON] = []
    for place, message in enumerate(messages):
        if place in used:
            continue
        repaired.append(_orphan_message(message) if message.get("role") == "tool" else message)
        for call_id in openai_calls(message):
            found = next(
                (
                    i
                    for i in range(place + 1, len(messages))
                    if i not in used
                    and messages[i].get("role") == "tool"
                    and messages[i].get("tool_call_id") == call_id
                ),
                None,
            )
            if found is None:
                repaired.append({"role": "tool", "tool_call_id": call_id, "content": NO_RESULT})
            else:
                used.add(found)
                repaired.append(messages[found])
    return repaired


def pair_tool_calls_anthropic(messages: Sequence[JSON]) -> list[JSON]:
    """Repair the messages of a Messages request. Valid ones stay as they are."""
    used: set[int] = set()
    repaired: list[JSON] = []
    # The results of the previous message's calls.
    answers: list[JSON] = []
    for place, message in enumerate(messages):
        blocks = _blocks(message)
        results = [block for block in blocks if block.get("type") == "tool_result"]
        rest = [_orphan_result(block) for block in blocks if id(block) not in used]
        if (
            answers
            and message.get("role") == "user"
            and {id(block) for block in results} == {id(block) for block in answers}
        ):
            repaired.append(message)
        elif answers and message.get("role") == "user":
            text = message.get("content")
            repaired.append(
                {
                    **message,
                    "content": [
                        *answers,
                        *([{"type": "text", "text": text}] if isinstance(text, str) else rest),
                    ],
                }
            )
        else:
            if answers:
                repaired.append({"role": "user", "content": answers})
            if not results:
                repaired.append(message)
            elif rest:
                repaired.append({**message, "content": rest})
        answers = []
        for call_id in anthropic_calls(message):
            found = next(
                (
                    block
                    for later in messages[place + 1 :]
                    for block in _blocks(later)
                    if _is_open(block, call_id, used)
                ),
                None,
            )
            if found:
                used.add(id(found))
            answers.append(
                found or {"type": "tool_result", "tool_use_id": call_id, "content": NO_RESULT}
            )
    if answers:
        repaired.append({"role": "user", "content": answers})
    return repaired


def _blocks(message: JSON) -> list[JSON]:
    content = message.get("content")
    return (
        [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
    )


def _is_open(block: JSON, call_id: str, used: set[int]) -> bool:
    return (
        block.get("type") == "tool_result"
        and block.get("tool_use_id") == call_id
        and id(block) not in used
    )


def _orphan_message(message: JSON) -> JSON:
    """Turn a result without a call into text."""
    return {
        "role": "user",
        "content": _result_text(message.get("tool_call_id"), message.get("content")),
    }


def _orphan_result(block: JSON) -> JSON:
    """Turn an Anthropic result without a call into text."""
    if block.get("type") != "tool_result":
        return block
    return {"type": "text", "text": _result_text(block.get("tool_use_id"), block.get("content"))}


def _result_text(call_id: object, content: object) -> str:
    texts = (
        [part.get("text") for part in content if isinstance(part, dict)]
        if isinstance(content, list)
        else [content]
    )
    return " ".join(
        [f"[result of the tool call {call_id}]", *[part for part in texts if isinstance(part, str)]]
    )
