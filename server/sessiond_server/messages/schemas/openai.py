"""Messages of OpenAI's Chat Completions API, and items of its Responses API."""

import re
from typing import Any

from sessiond_server.messages.schemas.checks import (
    SchemaError,
    check_content,
    fields,
    items,
    part,
    string,
    text_or,
)

_TEXT = fields(text=string)
_IMAGE = fields(image_url=text_or(fields(url=string)), file_id=string)
_FILE = fields(file_data=string, file_url=string, file_id=string, filename=string)
PARTS = {
    "text": _TEXT,
    "input_text": _TEXT,
    "output_text": _TEXT,
    "summary_text": _TEXT,
    "reasoning_text": _TEXT,
    "refusal": fields(refusal=string),
    "image_url": _IMAGE,
    "input_image": _IMAGE,
    "computer_screenshot": _IMAGE,
    "input_audio": fields(input_audio=fields(data=string, format=string)),
    "file": fields(file=_FILE),
    "input_file": _FILE,
}
# Types of Anthropic's blocks, and of parts in the AI SDK's model messages.
_FOREIGN_PARTS = frozenset(
    {"tool_use", "tool_result", "redacted_thinking", "server_tool_use", "container_upload"}
    | {"tool-call", "tool-result", "tool-approval-request", "tool-approval-response"}
)
# Types of items that need none of _ITEM_FIELDS.
_ITEMS = frozenset(
    {"reasoning", "compaction", "compaction_trigger", "compaction_summary", "item_reference"}
    | {"configuration_update", "additional_tools", "mcp_list_tools"}
)
_ITEM_ENDS = ("_call", "_output", "_request", "_response", "_tools")
_ITEM_FIELDS = ("id", "call_id", "status", "encrypted_content")
# Fields that only occur in lines of transcripts and in messages serialised by other programs.
_FOREIGN_FIELDS = frozenset({"payload", "message", "kwargs", "sessionId", "leafUuid"})
_ITEM_TYPE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
# Types that are not items: parts of content, and values that other programs use as roles.
_NO_ITEMS = (
    _FOREIGN_PARTS
    | PARTS.keys()
    | {"message", "thinking", "image", "document", "image_file", "step", "delta", "error"}
    | {"user", "assistant", "system", "developer", "tool", "function", "model", "bot"}
    | {"human", "ai", "chat", "remove"}
)
_check_item = fields(
    **dict.fromkeys(("id", "call_id", "name", "status", "encrypted_content"), string)
)
_ITEM_CHECKS = {
    "reasoning": fields(summary=items(_TEXT), content=items(_TEXT)),
    "image_generation_call": fields(result=string),
}


def _foreign(value: dict[str, Any]) -> None:
    """Refuse Anthropic's images, documents and thinking, but no other parts of these types."""
    kind = value["type"]
    if kind == "thinking" and isinstance(value.get("thinking"), str):
        raise SchemaError("is 'thinking', which only other formats have", ".type")
    if kind in ("image", "document") and isinstance(value.get("source"), dict):
        raise SchemaError(f"is {kind!r} with a source, which only other formats have", ".type")


_check_part = part(
    {**PARTS, **dict.fromkeys(("thinking", "image", "document"), _foreign)}, _FOREIGN_PARTS
)
_check_content = text_or(items(_check_part, "string, list of parts or null"))


def _check_call(value: Any) -> None:
    _check_call_fields(value)
    if value.get("function") is None and value.get("custom") is None:
        raise SchemaError("is missing: a call has a function, or is custom", ".function")


_check_call_fields = fields(
    id=string, type=string, function=fields(name=string), custom=fields(name=string)
)
_reasoning = text_or(items(fields(), "string, list or null"))
_check_message = fields(
    type=string,
    tool_calls=items(_check_call),
    function_call=fields(name=string, type=string),
    tool_call_id=string,
    name=string,
    refusal=string,
    audio=fields(transcript=string, data=string),
    images=items(_check_part),
    reasoning_content=_reasoning,
    reasoning=_reasoning,
    reasoning_details=items(fields()),
)


def check(value: dict[str, Any]) -> None:
    """Check a message or an item.

    Raises:
        SchemaError: if a reader could not read the message.
    """
    role = value.get("role")
    if role is None:
        _check_item(value)
        if (check_fields := _ITEM_CHECKS.get(value["type"])) is not None:
            check_fields(value)
        return
    _check_message(value)
    is_result = role in ("tool", "function")
    # A tool may return any JSON. But without a tool_call_id, this may be another format's message.
    if not (is_result and value.get("tool_call_id")):
        check_content(value, "content", _check_result if is_result else _check_content, ("parts",))


def _check_result(content: Any) -> None:
    for i, part_ in enumerate(content if isinstance(content, list) else ()):
        if isinstance(part_, dict) and part_.get("type") in tuple(_FOREIGN_PARTS):
            raise SchemaError(f"is {part_['type']!r}, which only other formats have", f"[{i}].type")


def is_item(value: dict[str, Any]) -> bool:
    """Whether an object without a role is an item of the Responses API, of any version."""
    kind = value.get("type")
    return (
        isinstance(kind, str)
        and kind not in _NO_ITEMS
        and (
            kind in _ITEMS
            or kind.endswith(_ITEM_ENDS)
            or any(isinstance(value.get(key), str) for key in _ITEM_FIELDS)
        )
        and _ITEM_TYPE.fullmatch(kind) is not None
        and value.keys().isdisjoint(_FOREIGN_FIELDS)
    )
