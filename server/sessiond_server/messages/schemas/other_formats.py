"""Recognises messages of other formats and programs, to name them in error messages."""

from collections.abc import Callable
from typing import Any, TypeAlias

_JSON: TypeAlias = dict[str, Any]

_LANGCHAIN_TYPES = frozenset(
    {"human", "ai", "system", "tool", "function", "chat", "remove", "constructor"}
    | {"HumanMessage", "AIMessage", "SystemMessage", "ToolMessage"}
    | {"HumanMessageChunk", "AIMessageChunk", "SystemMessageChunk", "ToolMessageChunk"}
)
_CODEX_TYPES = frozenset(
    {"response_item", "session_meta", "event_msg", "turn_context", "compacted"}
)
_BEDROCK_BLOCKS = frozenset(
    {"text", "toolUse", "toolResult", "reasoningContent", "image", "document", "video"}
    | {"cachePoint", "guardContent", "citationsContent"}
)
_ANTHROPIC_BLOCKS = frozenset(
    {"tool_use", "tool_result", "thinking", "redacted_thinking", "server_tool_use"}
    | {"image", "document", "container_upload"}
)
_OPENAI_PARTS = frozenset(
    {"image_url", "input_text", "output_text", "input_image", "input_audio", "input_file"}
    | {"refusal", "computer_screenshot", "summary_text", "reasoning_text"}
)
_OPENAI_FIELDS = ("tool_calls", "tool_call_id", "function_call", "call_id")


def advice(value: _JSON, format_name: str) -> str:
    """Return a text that names the format of a refused message, and says what to do.

    Args:
        value: the message.
        format_name: the format that the caller declared.

    Returns:
        A continuation of the error's description, beginning with "; ". "" = the format is unknown.
    """
    for looks_like, text in _PROGRAMS:
        if looks_like(value):
            return f"; it looks like {text}"
    for name, looks_like, text in _PROVIDERS:
        if name != format_name and looks_like(value):
            return f"; it looks like {text}: send it with format={name}"
    if format_name == "gemini" and "content" in value:
        return "; it looks like a message of OpenAI or Anthropic: send it with that format"
    return ""


def _objects(value: Any) -> list[_JSON]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _types(value: _JSON) -> set[str]:
    """Return the types of the parts of a message's content, and its own type if it has no role."""
    content = _objects(value.get("content")) + ([] if "role" in value else [value])
    return {kind for part in content if isinstance(kind := part.get("type"), str)}


def _is_langchain(value: _JSON) -> bool:
    return (
        "lc" in value
        or "additional_kwargs" in value
        or "response_metadata" in value
        or (
            value.get("role") is None
            and isinstance(value.get("type"), str)
            and value["type"] in _LANGCHAIN_TYPES
            and not value.keys().isdisjoint(("content", "data", "kwargs"))
        )
        or any("args" in call and "name" in call for call in _objects(value.get("tool_calls")))
    )


def _is_claude_code(value: _JSON) -> bool:
    return (
        "leafUuid" in value
        or "sessionId" in value
        or (isinstance(value.get("message"), dict) and isinstance(value.get("type"), str))
    )


def _is_codex(value: _JSON) -> bool:
    return (
        "payload" in value
        and isinstance(kind := value.get("type"), str)
        and (kind in _CODEX_TYPES or "timestamp" in value)
    )


def _is_pydantic_ai(value: _JSON) -> bool:
    return "parts" in value and (
        value.get("kind") in ("request", "response")
        or any("part_kind" in part for part in _objects(value["parts"]))
    )


def _is_a2a(value: _JSON) -> bool:
    return "messageId" in value or any("kind" in part for part in _objects(value.get("parts")))


def _is_ui_message(value: _JSON) -> bool:
    return any(isinstance(part.get("type"), str) for part in _objects(value.get("parts")))


def _is_ai_sdk(value: _JSON) -> bool:
    return any(kind.startswith("tool-") for kind in _types(value))


def _is_bedrock(value: _JSON) -> bool:
    return any(
        "type" not in part and not _BEDROCK_BLOCKS.isdisjoint(part)
        for part in _objects(value.get("content"))
    )


def _is_gemini(value: _JSON) -> bool:
    return value.get("role") == "model" or ("parts" in value and "content" not in value)


def _is_openai(value: _JSON) -> bool:
    role = value.get("role")
    return (
        any(key in value for key in _OPENAI_FIELDS)
        or (isinstance(role, str) and role in ("tool", "developer", "function"))
        or not _OPENAI_PARTS.isdisjoint(_types(value))
    )


_CONVERT = "convert it to a provider's message first"
# The most specific marks come first.
_PROGRAMS: tuple[tuple[Callable[[_JSON], bool], str], ...] = (
    (
        lambda value: "choices" in value,
        "a response of Chat Completions: store choices[0].message",
    ),
    (
        lambda value: value.get("object") == "response",
        "a response of OpenAI's Responses API: store each item of its output",
    ),
    (
        lambda value: "candidates" in value,
        "a response of Gemini: store candidates[0].content, with format=gemini",
    ),
    (
        _is_claude_code,
        "a line of a Claude Code transcript: store its message, with format=anthropic",
    ),
    (
        _is_codex,
        "a line of a Codex rollout: store the payload of its response_item lines, with "
        "format=openai",
    ),
    (
        _is_langchain,
        "a message of LangChain: convert it with convert_to_openai_messages() of "
        "langchain_core.messages, and store it with format=openai",
    ),
    (_is_pydantic_ai, f"a message of pydantic-ai: {_CONVERT}"),
    (_is_a2a, f"a message of the A2A protocol: {_CONVERT}"),
    (
        _is_ui_message,
        "a UIMessage of the Vercel AI SDK: store the messages that the provider sent and got, "
        "or its text as content",
    ),
    (_is_ai_sdk, f"a ModelMessage of the Vercel AI SDK: {_CONVERT}"),
    (_is_bedrock, f"a message of Amazon Bedrock or Strands: {_CONVERT}"),
    (
        lambda value: "blocks" in value,
        f"a message of LlamaIndex: {_CONVERT}",
    ),
    (
        lambda value: "from" in value and "value" in value,
        'a line of a ShareGPT data set: store {"role": ..., "content": ...}',
    ),
)
_PROVIDERS: tuple[tuple[str, Callable[[_JSON], bool], str], ...] = (
    ("gemini", _is_gemini, "a content of Gemini"),
    (
        "anthropic",
        lambda value: not _ANTHROPIC_BLOCKS.isdisjoint(_types(value)),
        "a message of Anthropic",
    ),
    ("openai", _is_openai, "a message of OpenAI"),
)
