"""Contents of the Gemini API, in the spelling of its JSON or of its Python SDK."""

from typing import Any

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


def read(content: dict[str, Any]) -> list[Block]:
    """Return the blocks of a content."""
    return [block for part in listed(content.get("parts")) for block in _read_part(part)]


def _read_part(part: Any) -> list[Block]:
    if isinstance(part, str):
        return text_block(part)
    if (text := get(part, "text")) is not None:
        if get(part, "thought") is True:
            return [Block("reasoning", as_text(text), is_markdown=True)]
        return text_block(text)
    if (call := get(part, "functionCall", "function_call")) is not None:
        name, call_id = as_text(get(call, "name")), as_text(get(call, "id"))
        # Gemini pairs calls and results by name if they have no id.
        return [Block("call", as_text(get(call, "args")), name=name, call_id=call_id or name)]
    if (result := get(part, "functionResponse", "function_response")) is not None:
        return [_result(result)]
    if (inline := get(part, "inlineData", "inline_data")) is not None:
        media_type = as_text(get(inline, "mimeType", "mime_type"))
        name = as_text(get(inline, "displayName", "display_name"))
        data = as_text(get(inline, "data"))
        kind = _kind(media_type)
        return [file_block(from_base64(kind, data, media_type=media_type, name=name))]
    if (file := get(part, "fileData", "file_data")) is not None:
        media_type = as_text(get(file, "mimeType", "mime_type"))
        uri = as_text(get(file, "fileUri", "file_uri"))
        return [file_block(from_data_url(_kind(media_type), uri, media_type=media_type))]
    if (code := get(part, "executableCode", "executable_code")) is not None:
        return [Block("call", as_text(get(code, "code")), name="code execution", call_id="code")]
    if (run := get(part, "codeExecutionResult", "code_execution_result")) is not None:
        failed = as_text(get(run, "outcome")) not in ("", "OUTCOME_OK")
        text = as_text(get(run, "output"))
        return [Block("result", text, name="code execution", call_id="code", is_error=failed)]
    return [other_block(part)]


def _result(result: Any) -> Block:
    name, call_id = as_text(get(result, "name")), as_text(get(result, "id"))
    response = get(result, "response")
    value = get(response, "output", "result")
    if value is None or (isinstance(response, dict) and len(response) > 1):
        value = response
    text = pretty_text(value) if isinstance(value, str) else as_text(value)
    block = Block("result", text, name=name, call_id=call_id or name)
    block.is_error = get(response, "error") is not None
    block.parts = [b for one in listed(get(result, "parts")) for b in _read_part(one)]
    return block


def _kind(media_type: str) -> str:
    kind = media_type.partition("/")[0]
    return kind if kind in ("image", "audio") else "file"
