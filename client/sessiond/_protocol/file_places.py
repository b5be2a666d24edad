"""The places in a provider's message that may hold a file: a URL, content, or an asset.

The server has the same rules. A string in any other place is text, whatever it looks like.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

from sessiond.v1 import message_pb2

Place: TypeAlias = tuple[dict[str, Any], str]
"""An object, and the key under which it holds the file."""

# The keys that hold a part's file, by the part's type. They are keys of the part itself, or of an
# object inside the part.
_OPENAI_FILES = {
    "image_url": ("image_url", "image_url.url"),
    "input_image": ("image_url", "image_url.url"),
    "computer_screenshot": ("image_url", "image_url.url"),
    "input_audio": ("input_audio.data",),
    "file": ("file.file_data", "file.file_url"),
    "input_file": ("file_data", "file_url"),
}
_GEMINI_FILES = (
    *("inlineData.data", "inline_data.data", "fileData.fileUri", "fileData.file_uri"),
    *("file_data.file_uri", "file_data.fileUri"),
)


def file_places(message: object, format: int) -> Iterator[Place]:
    """Yield the places in a message that may hold a file and contain a string.

    Args:
        message: the parsed JSON.
        format: the number of its format.
    """
    if isinstance(message, dict):
        for holder, key in _places(message, format):
            if isinstance(holder.get(key), str):
                yield holder, key


def _places(message: dict[str, Any], format: int) -> Iterator[Place]:
    match format:
        case message_pb2.FORMAT_OPENAI:
            for name in ("content", "output", "images"):
                for part in _objects(message.get(name)):
                    kind = part.get("type")
                    paths = _OPENAI_FILES.get(kind, ()) if isinstance(kind, str) else ()
                    yield from _at(part, paths)
            if message.get("type") == "image_generation_call":
                yield message, "result"
        case message_pb2.FORMAT_ANTHROPIC:
            for block in _objects(message.get("content")):
                yield from _at(block, ("source.data", "source.url"))
                for inner in (block.get("source"), block):
                    if isinstance(inner, dict):
                        yield from _places(inner, format)
        case message_pb2.FORMAT_GEMINI:
            for part in _objects(message.get("parts")):
                yield from _at(part, _GEMINI_FILES)
                for name in ("functionResponse", "function_response"):
                    for response in _objects(part.get(name)):
                        yield from _places(response, format)


def _objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects in a list; for a single object, a list of it."""
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, dict)]


def _at(part: dict[str, Any], paths: tuple[str, ...]) -> Iterator[Place]:
    for path in paths:
        name, _, key = path.partition(".")
        holder = part.get(name) if key else part
        if isinstance(holder, dict):
            yield holder, key or name
