"""Messages of agents' programs and frameworks."""

from collections.abc import Callable
from typing import Any

from sessiond_console.rendering import anthropic, openai
from sessiond_console.rendering.blocks import (
    Block,
    as_text,
    get,
    listed,
    other_block,
    pretty_text,
    text_block,
)
from sessiond_console.rendering.files import file_block, from_base64, from_data_url

_Json = dict[str, Any]
_FROM_URL_SAFE = str.maketrans("-_", "+/")
_FILES = {"image": "image", "audio": "audio", "video": "file", "document": "file"}


def read(blob: _Json, format_name: str, role: str) -> list[Block] | None:
    """Return the blocks of a message's content; the caller also shows the whole message.

    Args:
        blob: the message.
        format_name: the program that wrote it.
        role: the role of the message, as the server stored it.

    Returns:
        The blocks. None if the console cannot read the message, e.g. a program's own note.
    """
    reader = _READERS.get(format_name)
    return reader(blob, role) if reader else None


def _claude_code(blob: _Json, role: str) -> list[Block] | None:
    del role
    inner = blob.get("message")
    return anthropic.read(inner) if isinstance(inner, dict) and "content" in inner else None


def _codex(blob: _Json, role: str) -> list[Block] | None:
    if isinstance(payload := blob.get("payload"), dict):
        return _openai(payload, role) if blob.get("type") == "response_item" else None
    return _openai(blob, role)


def _openai(blob: _Json, role: str) -> list[Block] | None:
    if isinstance(blob.get("type"), str):
        return openai.read_item(blob)
    return openai.read_chat(blob, role) if "role" in blob else None


def _sharegpt(blob: _Json, role: str) -> list[Block] | None:
    if "from" not in blob:
        return _openai(blob, role)
    kind = as_text(blob["from"])
    value = blob.get("value", blob.get("text"))
    if kind in ("function_call", "tool_call"):
        return [Block("call", pretty_text(as_text(value)), name=kind)]
    if role == "tool":
        return [Block("result", pretty_text(as_text(value)), name=kind)]
    return text_block(value)


def _pydantic_ai(blob: _Json, role: str) -> list[Block] | None:
    del role
    if "kind" not in blob and isinstance(blob.get("message"), dict):
        blob = blob["message"]
    if not isinstance(blob.get("parts"), list):
        return None
    return [block for part in blob["parts"] for block in _part(part)]


def _part(part: Any) -> list[Block]:
    kind, content = get(part, "part_kind"), get(part, "content")
    name, call_id = as_text(get(part, "tool_name")), as_text(get(part, "tool_call_id"))
    match kind:
        case "thinking":
            text = as_text(content)
            return [Block("reasoning", text or "(redacted)", is_markdown=bool(text))]
        case "tool-call" | "builtin-tool-call":
            arguments = get(part, "args")
            text = pretty_text(arguments) if isinstance(arguments, str) else as_text(arguments)
            return [Block("call", text, name=name, call_id=call_id)]
        case "tool-return" | "builtin-tool-return" | "retry-prompt" if name:
            block = Block("result", name=name, call_id=call_id)
            block.is_error = kind == "retry-prompt" or get(part, "outcome") in ("failed", "denied")
            block.text = pretty_text(content) if isinstance(content, str) else as_text(content)
            return [block]
        case "speech":
            return text_block(get(part, "transcript"))
        case "file":
            return [_file(content)]
        case _ if isinstance(content, str):
            return text_block(content)
        case "user-prompt":
            return [block for item in listed(content) for block in _prompt(item)]
    return [other_block(part, as_text(kind))]


def _prompt(item: Any) -> list[Block]:
    if isinstance(item, str):
        return text_block(item)
    if get(item, "kind") in ("text-content", "structured-content"):
        return text_block(get(item, "content"))
    return [] if get(item, "kind") == "cache-point" else [_file(item)]


def _file(item: Any) -> Block:
    kind, media_type = as_text(get(item, "kind")), as_text(get(item, "media_type"))
    shown = _FILES.get(kind.removesuffix("-url"), media_type.partition("/")[0])
    shown = shown if shown in ("image", "audio") else "file"
    if kind == "binary":
        # Pydantic writes base64 in the URL-safe alphabet.
        data = as_text(get(item, "data")).translate(_FROM_URL_SAFE)
        return file_block(from_base64(shown, data, media_type=media_type))
    if kind.endswith("-url"):
        return file_block(from_data_url(shown, as_text(get(item, "url")), media_type=media_type))
    return other_block(item, kind)


def _strands(blob: _Json, role: str) -> list[Block] | None:
    del role
    said = blob.get("redact_message") or blob.get("message") or blob
    content = get(said, "content")
    if not isinstance(content, list):
        return None
    return [block for one in content for block in _block(one)]


def _block(block: Any) -> list[Block]:
    if use := get(block, "toolUse"):
        text, name = as_text(get(use, "input")), as_text(get(use, "name"))
        return [Block("call", text, name=name, call_id=as_text(get(use, "toolUseId")))]
    if result := get(block, "toolResult"):
        shown = Block("result", call_id=as_text(get(result, "toolUseId")))
        shown.is_error = get(result, "status") == "error"
        inner = listed(get(result, "content"))
        texts = [as_text(get(one, "text", "json")) for one in inner]
        shown.text = "\n".join(pretty_text(text) for text in texts if text)
        shown.parts = [
            part for one in inner if not get(one, "text", "json") for part in _block(one)
        ]
        return [shown]
    if reasoning := get(block, "reasoningContent"):
        text = as_text(get(get(reasoning, "reasoningText"), "text"))
        return [Block("reasoning", text or "(redacted)", is_markdown=bool(text))]
    for key, kind in _FILES.items():
        if inner := get(block, key):
            data = as_text(get(get(get(inner, "source"), "bytes"), "data"))
            media_type = f"{key}/{as_text(get(inner, 'format'))}" if kind != "file" else ""
            name = as_text(get(inner, "name"))
            return [file_block(from_base64(kind, data, media_type=media_type, name=name))]
    if (text := get(block, "text")) is not None:
        return text_block(text)
    return [other_block(block)]


def _langchain(blob: _Json, role: str) -> list[Block] | None:
    data = blob.get("data") or blob.get("kwargs") or blob
    content = get(data, "content")
    if role == "tool":
        name, call_id = as_text(get(data, "name")), as_text(get(data, "tool_call_id"))
        block = openai.result_block(content, name, call_id)
        block.is_error = get(data, "status") == "error"
        return [block]
    blocks: list[Block] = []
    for part in listed(content):
        # Skip calls here: tool_calls, which is read below, has them as well.
        if get(part, "type") not in ("tool_use", "tool_call", "function_call"):
            blocks += openai.read_part(part)
    for call in [*listed(get(data, "tool_calls")), *listed(get(data, "invalid_tool_calls"))]:
        name, call_id = as_text(get(call, "name")), as_text(get(call, "id"))
        blocks.append(Block("call", as_text(get(call, "args")), name=name, call_id=call_id))
    return blocks


def _openai_export(blob: _Json, role: str) -> list[Block] | None:
    message = blob if "author" in blob else blob.get("message")
    content = get(message, "content")
    if not isinstance(content, dict):
        return None
    text = as_text(content.get("text"))
    if role == "tool":
        name = as_text(get(get(message, "author"), "name"))
        shown = text or "\n".join(map(as_text, listed(content.get("parts"))))
        return [Block("result", pretty_text(shown), name=name)]
    if (recipient := as_text(get(message, "recipient"))) not in ("", "all"):
        shown = text or "\n".join(map(as_text, listed(content.get("parts"))))
        return [Block("call", pretty_text(shown), name=recipient)]
    if content.get("content_type") == "thoughts":
        return [
            Block("reasoning", as_text(get(thought, "content")), is_markdown=True)
            for thought in listed(content.get("thoughts"))
        ]
    return [
        *text_block(text),
        *(
            block
            for part in listed(content.get("parts"))
            for block in (text_block(part) if isinstance(part, str) else [other_block(part)])
        ),
    ]


_READERS: dict[str, Callable[[_Json, str], list[Block] | None]] = {
    "claude-code": _claude_code,
    "codex": _codex,
    "openai-agents": _openai,
    "pydantic-ai": _pydantic_ai,
    "strands": _strands,
    "langchain": _langchain,
    "openai-export": _openai_export,
    "sharegpt": _sharegpt,
}
