"""Messages of typed parts."""

from collections.abc import Iterable

from sessiond.v1 import message_pb2
from sessiond_console.rendering.blocks import Block, File, pretty_text, text_block
from sessiond_console.rendering.files import file_block


def read(parts: Iterable[message_pb2.Part], *, is_tool: bool = False) -> list[Block]:
    """Return the blocks of typed parts.

    Args:
        parts: the parts.
        is_tool: whether the message has the role tool; its texts are not Markdown then.
    """
    return [block for part in parts for block in _read_part(part, is_tool)]


def _read_part(part: message_pb2.Part, is_tool: bool) -> list[Block]:
    match part.WhichOneof("kind"):
        case "text":
            return text_block(part.text, is_markdown=not is_tool)
        case "image":
            return [file_block(_file("image", part.image))]
        case "audio":
            return [file_block(_file("audio", part.audio))]
        case "file":
            return [file_block(_file("file", part.file))]
        case "tool_call":
            call = part.tool_call
            arguments = pretty_text(call.arguments_json)
            return [Block("call", arguments, name=call.name, call_id=call.call_id)]
        case "tool_result":
            result = part.tool_result
            inner = read(result.parts, is_tool=True)
            block = Block("result", call_id=result.call_id, is_error=result.is_error)
            block.text = "\n".join(pretty_text(one.text) for one in inner if one.kind == "text")
            block.parts = [one for one in inner if one.kind != "text"]
            return [block]
        case "reasoning":
            text = part.reasoning.text
            return [Block("reasoning", text or "(redacted)", is_markdown=bool(text))]
        case "data":
            return [Block("other", pretty_text(part.data), name="data")]
        case _:
            return [Block("other", "(a part that this version does not know)", name="part")]


def _file(kind: str, blob: message_pb2.Blob) -> File:
    file = File(kind, blob.media_type, blob.name, asset_id=blob.asset_id, uri=blob.uri)
    # The content itself is read from the message when the file is opened.
    file.data = "inline" if blob.inline else ""
    return file
