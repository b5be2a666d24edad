"""Anthropic's Messages API: the required positions of calls and results."""

from collections.abc import Iterator

from .refusal import JSON, Refusal


def blocks_of(message: JSON) -> list[JSON]:
    """Return the content blocks of a message. A plain text has none."""
    content = message["content"]
    return content if isinstance(content, list) else []


def check_tools_of_client(messages: list[JSON]) -> None:
    """Check that each tool_use has one tool_result, at the head of the next message.

    Raises:
        Refusal: if a call has no result or several, or a result has no call.
    """
    open_ids: list[str] = []
    for index, message in enumerate(messages):
        results = list(_leading_results(message))
        for place, block in enumerate(blocks_of(message)):
            if block["type"] == "tool_result":
                _check_result(block["tool_use_id"], open_ids, f"messages.{index}.content.{place}")
        missing = [call_id for call_id in open_ids if call_id not in results]
        if missing:
            raise _unanswered(index - 1, missing)
        for call_id in results:
            if results.count(call_id) > 1:
                raise Refusal(
                    "anthropic",
                    f"messages.{index}.content.{results.index(call_id) + 1}: each tool_use must "
                    "have a single result. Found multiple `tool_result` blocks with id: "
                    f"{call_id}",
                )
        open_ids = [block["id"] for block in blocks_of(message) if block["type"] == "tool_use"]
    if open_ids:
        raise _unanswered(len(messages) - 1, open_ids)


def _leading_results(message: JSON) -> Iterator[str]:
    """Yield the ids of the results at the head of their message."""
    for block in blocks_of(message):
        if block["type"] != "tool_result":
            return
        yield block["tool_use_id"]


def _check_result(call_id: str, open_ids: list[str], path: str) -> None:
    if call_id not in open_ids:
        raise Refusal(
            "anthropic",
            f"{path}: unexpected `tool_use_id` found in `tool_result` blocks: {call_id}. Each "
            "`tool_result` block must have a corresponding `tool_use` block in the previous "
            "message.",
        )


def _unanswered(index: int, missing: list[str]) -> Refusal:
    return Refusal(
        "anthropic",
        f"messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately "
        f"after: {', '.join(missing)}. Each `tool_use` block must have a corresponding "
        "`tool_result` block in the next message.",
    )


def check_tools_of_server(messages: list[JSON]) -> None:
    """Check that each server_tool_use is followed by its result in the same message.

    The newest message may end with a call that is still pending.

    Raises:
        Refusal: if a call has no result, or a result no call.
    """
    for index, message in enumerate(messages):
        pending: dict[str, str] = {}
        for place, block in enumerate(blocks_of(message)):
            kind = block["type"]
            if kind == "server_tool_use":
                pending[block["id"]] = block["name"]
            elif kind.endswith("_tool_result") and not pending.pop(block["tool_use_id"], None):
                raise Refusal(
                    "anthropic",
                    f"messages.{index}.content.{place}: unexpected `tool_use_id` found in "
                    f"`{kind}` blocks: {block['tool_use_id']}. Each `{kind}` block must have a "
                    "corresponding `server_tool_use` block before it.",
                )
        for call_id, name in pending.items():
            if index + 1 < len(messages):
                raise Refusal(
                    "anthropic",
                    f"messages.{index}: `{name}` tool use with id `{call_id}` was found without a "
                    f"corresponding `{name}_tool_result` block",
                )
