"""Calls of tools and their results, put together as providers want them: every call answered, right behind the message that calls.

Histories are not always so: a prompt waits while a tool still runs, a result is stored late or never, a part of the history is left out.
The history stays as it is stored; only the request is mended, since a provider would refuse it and all that come after.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

JSON: TypeAlias = dict[str, Any]
NO_RESULT = "(There is no result.)"


def openai_calls(message: JSON) -> list[str]:
    """The ids of the calls in a message of Chat Completions."""
    calls = message.get("tool_calls")
    return (
        [str(call.get("id")) for call in calls if isinstance(call, dict)]
        if isinstance(calls, list)
        else []
    )


def anthropic_calls(message: JSON) -> list[str]:
    """The ids of the calls in a message of the Messages API."""
    return [str(block.get("id")) for block in _blocks(message) if block.get("type") == "tool_use"]


def pair_tool_calls_openai(messages: Sequence[JSON]) -> list[JSON]:
    """The messages of a Chat Completions request. Those that are well stay as they are."""
    taken: set[int] = set()
    mended: list[JSON] = []
    for place, message in enumerate(messages):
        if place in taken:
            continue
        mended.append(_stray_message(message) if message.get("role") == "tool" else message)
        for call_id in openai_calls(message):
            found = next(
                (
                    i
                    for i in range(place + 1, len(messages))
                    if i not in taken
                    and messages[i].get("role") == "tool"
                    and messages[i].get("tool_call_id") == call_id
                ),
                None,
            )
            if found is None:
                mended.append({"role": "tool", "tool_call_id": call_id, "content": NO_RESULT})
            else:
                taken.add(found)
                mended.append(messages[found])
    return mended


def pair_tool_calls_anthropic(messages: Sequence[JSON]) -> list[JSON]:
    """The messages of a Messages request. Those that are well stay as they are."""
    taken: set[int] = set()
    mended: list[JSON] = []
    # What answers the calls of the message before.
    answers: list[JSON] = []
    for place, message in enumerate(messages):
        blocks = _blocks(message)
        results = [block for block in blocks if block.get("type") == "tool_result"]
        rest = [_orphan_result(block) for block in blocks if id(block) not in taken]
        if (
            answers
            and message.get("role") == "user"
            and {id(block) for block in results} == {id(block) for block in answers}
        ):
            mended.append(message)
        elif answers and message.get("role") == "user":
            text = message.get("content")
            mended.append(
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
                mended.append({"role": "user", "content": answers})
            if not results:
                mended.append(message)
            elif rest:
                mended.append({**message, "content": rest})
        answers = []
        for call_id in anthropic_calls(message):
            found = next(
                (
                    block
                    for later in messages[place + 1 :]
                    for block in _blocks(later)
                    if _is_open(block, call_id, taken)
                ),
                None,
            )
            if found:
                taken.add(id(found))
            answers.append(
                found or {"type": "tool_result", "tool_use_id": call_id, "content": NO_RESULT}
            )
    if answers:
        mended.append({"role": "user", "content": answers})
    return mended


def _blocks(message: JSON) -> list[JSON]:
    content = message.get("content")
    return (
        [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
    )


def _is_open(block: JSON, call_id: str, taken: set[int]) -> bool:
    return (
        block.get("type") == "tool_result"
        and block.get("tool_use_id") == call_id
        and id(block) not in taken
    )


def _stray_message(message: JSON) -> JSON:
    """A result whose call is not there, as what it says."""
    return {"role": "user", "content": _told(message.get("tool_call_id"), message.get("content"))}


def _orphan_result(block: JSON) -> JSON:
    """The same of Anthropic's."""
    if block.get("type") != "tool_result":
        return block
    return {"type": "text", "text": _told(block.get("tool_use_id"), block.get("content"))}


def _told(call_id: object, content: object) -> str:
    said = (
        [part.get("text") for part in content if isinstance(part, dict)]
        if isinstance(content, list)
        else [content]
    )
    return " ".join(
        [f"[result of the tool call {call_id}]", *[part for part in said if isinstance(part, str)]]
    )
