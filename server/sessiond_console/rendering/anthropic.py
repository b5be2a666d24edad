"""Messages of Anthropic's Messages API."""

from typing import Any

from sessiond_console.rendering.blocks import (
    Block,
    File,
    as_text,
    get,
    listed,
    other_block,
    pretty_text,
    text_block,
)
from sessiond_console.rendering.files import file_block, from_base64, from_data_url


def read(message: dict[str, Any]) -> list[Block]:
    """Return the blocks of a message."""
    return [block for part in listed(message.get("content")) for block in _read_part(part)]


def _read_part(part: Any) -> list[Block]:
    kind = as_text(get(part, "type"))
    if isinstance(part, str) or kind == "text":
        text = part if isinstance(part, str) else get(part, "text")
        return [*text_block(text), *(_citation(one) for one in listed(get(part, "citations")))]
    if kind == "thinking":
        return [Block("reasoning", as_text(get(part, "thinking")) or "(empty)", is_markdown=True)]
    if kind == "redacted_thinking":
        return [Block("reasoning", "(redacted)")]
    if kind in ("image", "document"):
        return _file("image" if kind == "image" else "file", part)
    if kind.endswith("tool_use"):
        name, call_id = as_text(get(part, "name")), as_text(get(part, "id"))
        return [Block("call", as_text(get(part, "input")), name=name, call_id=call_id)]
    if kind.endswith("tool_result"):
        return [_result(part)]
    if kind == "search_result":
        title, uri = as_text(get(part, "title")), as_text(get(part, "source"))
        inner = [b for one in listed(get(part, "content")) for b in _read_part(one)]
        return [Block("citation", title or uri, uri=uri), *inner]
    return [other_block(part)]


def _file(kind: str, part: Any) -> list[Block]:
    source = get(part, "source")
    name = as_text(get(part, "title"))
    media_type = as_text(get(source, "media_type"))
    match get(source, "type"):
        case "base64":
            data = as_text(get(source, "data"))
            return [file_block(from_base64(kind, data, media_type=media_type, name=name))]
        case "url":
            uri = as_text(get(source, "url"))
            return [file_block(from_data_url(kind, uri, media_type=media_type, name=name))]
        case "text":
            return [Block("file", as_text(get(source, "data")), file=File(kind, media_type, name))]
        case "content":
            inner = [b for one in listed(get(source, "content")) for b in _read_part(one)]
            return [file_block(File(kind, media_type, name)), *inner]
        case _:
            file_id = as_text(get(source, "file_id"))
            return [file_block(File(kind, media_type, name or file_id))]


def _result(part: Any) -> Block:
    block = Block("result", call_id=as_text(get(part, "tool_use_id")))
    block.is_error = get(part, "is_error") is True
    texts: list[str] = []
    for one in listed(get(part, "content")):
        kind = as_text(get(one, "type"))
        if isinstance(one, str) or kind == "text":
            text = one if isinstance(one, str) else as_text(get(one, "text"))
            texts.append(pretty_text(text))
        elif kind.endswith("_error"):
            block.is_error = True
            texts.append(as_text(get(one, "error_code", "message")) or as_text(one))
        elif kind.endswith("execution_result"):
            texts += [t for key in ("stdout", "stderr") if (t := as_text(get(one, key)))]
        elif kind == "web_search_result":
            title, uri = as_text(get(one, "title")), as_text(get(one, "url"))
            block.parts.append(Block("citation", title or uri, uri=uri))
        else:
            block.parts += _read_part(one)
    block.text = "\n".join(texts)
    return block


def _citation(value: Any) -> Block:
    uri = as_text(get(value, "url") or get(value, "source"))
    title = as_text(get(value, "title") or get(value, "document_title"))
    quoted = as_text(get(value, "cited_text"))
    return Block("citation", title or quoted or uri or "citation", uri=uri)
