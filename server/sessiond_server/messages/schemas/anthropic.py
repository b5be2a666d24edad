"""Messages of Anthropic's Messages API."""

from typing import Any

from sessiond_server.messages.schemas import openai
from sessiond_server.messages.schemas.checks import (
    Check,
    check_content,
    fields,
    items,
    part,
    string,
    text_or,
)

# Types of OpenAI's parts, and of parts in the AI SDK's model messages.
_FOREIGN_BLOCKS = frozenset(
    openai.PARTS.keys() - {"text", "file"}
    | {"function_call", "function_call_output"}
    | {"tool-call", "tool-result", "tool-approval-request", "tool-approval-response"}
)
_FOREIGN_FIELDS = ("parts", "tool_calls", "tool_call_id", "function_call")


def _check_inner(value: Any) -> None:
    # A single block may replace a list of blocks; any other object is kept as text.
    if not isinstance(value, str | dict):
        _check_blocks(value)


_FILE = fields(
    source=fields(
        **dict.fromkeys(("type", "data", "url", "media_type", "file_id"), string),
        content=_check_inner,
    ),
    title=string,
)
BLOCKS: dict[str, Check] = {
    "text": fields(text=string),
    "image": _FILE,
    "document": _FILE,
    "tool_use": fields(id=string, name=string),
    "tool_result": fields(tool_use_id=string, content=_check_inner),
    "thinking": fields(thinking=string, signature=string),
    "redacted_thinking": fields(data=string),
    "container_upload": fields(file_id=string),
}
_check_blocks = items(part(BLOCKS, _FOREIGN_BLOCKS), "string or list of blocks")
_check_content = text_or(_check_blocks)


def check(value: dict[str, Any]) -> None:
    """Check a message.

    Raises:
        SchemaError: if a reader could not read the message.
    """
    check_content(value, "content", _check_content, _FOREIGN_FIELDS)
