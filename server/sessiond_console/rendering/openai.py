"""Messages of Chat Completions, and items of the Responses API."""

from collections.abc import Iterator
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
from sessiond_console.rendering.files import file_block, from_data_url

_TEXT_TYPES = ("text", "input_text", "output_text")


def read_chat(message: dict[str, Any], role: str) -> list[Block]:
    """Return the blocks of a message of Chat Completions.

    Args:
        message: the message.
        role: the role of the message, as the server stored it.
    """
    if role == "tool":
        name, call_id = as_text(message.get("name")), as_text(message.get("tool_call_id"))
        return [result_block(message.get("content"), name, call_id)]
    blocks: list[Block] = []
    for key in ("reasoning_content", "reasoning"):
        if isinstance(reasoning := message.get(key), str) and reasoning:
            blocks.append(Block("reasoning", reasoning, is_markdown=True))
            break
    for part in listed(message.get("content")):
        blocks += read_part(part)
    if refusal := message.get("refusal"):
        blocks.append(Block("refusal", as_text(refusal)))
    if audio := message.get("audio"):
        transcript = as_text(get(audio, "transcript"))
        file = File("audio", name=as_text(get(audio, "id")), data=as_text(get(audio, "data")))
        blocks.append(Block("file", transcript, file=file))
    for citation in listed(message.get("annotations")):
        blocks.append(_citation(citation))
    for call in listed(message.get("tool_calls")):
        blocks.append(_tool_call(call))
    if isinstance(call := message.get("function_call"), dict):
        blocks.append(_call(call.get("name"), "", call.get("arguments")))
    return blocks


def read_item(item: dict[str, Any]) -> list[Block]:
    """Return the blocks of an item of the Responses API."""
    kind = as_text(item.get("type"))
    call_id = as_text(item.get("call_id") or item.get("id"))
    if kind in ("", "message"):
        return [block for part in listed(item.get("content")) for block in read_part(part)]
    if kind == "reasoning":
        texts = [*_texts(item.get("summary")), *_texts(item.get("content"))]
        hidden = "(encrypted)" if item.get("encrypted_content") else ""
        return [Block("reasoning", "\n\n".join(texts) or hidden, is_markdown=True)]
    if kind.endswith("_output"):
        return [result_block(item.get("output", item.get("result")), "", call_id)]
    if kind == "image_generation_call":
        file = File("image", "image/png", data=as_text(item.get("result")))
        return [Block("file", as_text(item.get("revised_prompt")), file=file)]
    if kind == "compaction":
        return [Block("reasoning", "(compacted history, encrypted)")]
    if kind.endswith("_call") or kind == "mcp_approval_request":
        return [_item_call(item, kind, call_id)]
    return [other_block(item)]


def read_part(part: Any) -> list[Block]:
    """Return the blocks of a part of a content."""
    if isinstance(part, str):
        return text_block(part)
    kind = get(part, "type")
    if kind in _TEXT_TYPES:
        found = text_block(get(part, "text"))
        return [*found, *(_citation(one) for one in listed(get(part, "annotations")))]
    if kind == "refusal":
        return [Block("refusal", as_text(get(part, "refusal")))]
    if kind in ("image_url", "input_image"):
        source = get(part, "image_url")
        uri = as_text(get(source, "url") if isinstance(source, dict) else source)
        name = as_text(get(part, "file_id"))
        return [file_block(from_data_url("image", uri, name=name))]
    if kind in ("input_audio", "audio"):
        audio = get(part, "input_audio", "audio")
        media_type = f"audio/{as_text(get(audio, 'format')) or 'wav'}"
        return [file_block(File("audio", media_type, data=as_text(get(audio, "data"))))]
    if kind in ("file", "input_file"):
        source = get(part, "file") if kind == "file" else part
        name = as_text(get(source, "filename")) or as_text(get(source, "file_id"))
        uri = as_text(get(source, "file_data") or get(source, "file_url"))
        return [file_block(from_data_url("file", uri, name=name))]
    return [other_block(part)]


def result_block(content: Any, name: str, call_id: str) -> Block:
    """Return the block of a tool's result."""
    block = Block("result", name=name, call_id=call_id)
    texts: list[str] = []
    for part in listed(content):
        if isinstance(part, str):
            texts.append(pretty_text(part))
        elif get(part, "type") in _TEXT_TYPES:
            texts.append(pretty_text(as_text(get(part, "text"))))
        elif isinstance(part, dict) and {"stdout", "stderr", "logs"} & part.keys():
            texts += [as_text(part[key]) for key in ("stdout", "stderr", "logs") if key in part]
        else:
            block.parts += read_part(part)
    block.text = "\n".join(texts)
    return block


def _tool_call(call: Any) -> Block:
    function = get(call, "function", "custom")
    arguments = get(function, "arguments", "input")
    return _call(get(function, "name"), get(call, "id"), arguments)


def _call(name: Any, call_id: Any, arguments: Any) -> Block:
    text = pretty_text(arguments) if isinstance(arguments, str) else as_text(arguments)
    return Block("call", text, name=as_text(name), call_id=as_text(call_id))


def _item_call(item: dict[str, Any], kind: str, call_id: str) -> Block:
    """Return the block of a call, with the result if the item of the call contains it."""
    name = as_text(item.get("name")) or kind.removesuffix("_call")
    arguments = item.get("arguments", item.get("input", item.get("action", item.get("queries"))))
    block = _call(name, call_id, item.get("code") if arguments is None else arguments)
    for key in ("output", "outputs", "results"):
        if item.get(key):
            block.results.append(result_block(item[key], name, call_id))
    if item.get("error"):
        failure = result_block(as_text(item["error"]), name, call_id)
        failure.is_error = True
        block.results.append(failure)
    return block


def _citation(value: Any) -> Block:
    inner = get(value, "url_citation") or value
    uri = as_text(get(inner, "url"))
    title = as_text(get(inner, "title") or get(inner, "filename") or get(inner, "file_id"))
    return Block("citation", title or uri, uri=uri) if title or uri else other_block(value)


def _texts(parts: Any) -> Iterator[str]:
    for part in listed(parts):
        if text := as_text(get(part, "text") if isinstance(part, dict) else part):
            yield text
