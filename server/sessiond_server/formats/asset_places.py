"""The places of a provider's message that hold a file, where a string may refer to an asset.

The same string in any other place is text: a prompt or an answer may quote a reference.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC, FORMAT_GEMINI, FORMAT_OPENAI
from sessiond_server.formats.files import asset_id_of

_Places: TypeAlias = Iterator[tuple[str, Any]]

# By the type of a part: the keys that hold its file. "a.b" is the key b of the object under key a.
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


def references(value: dict[str, Any], message_format: int) -> Iterator[tuple[bytes, str]]:
    """Yield (sha256, path) of each asset that a provider's message refers to.

    Args:
        value: the parsed JSON.
        message_format: the format of the message.
    """
    places = _PLACES.get(message_format)
    for path, place in places(value) if places else ():
        if asset_id := asset_id_of(place):
            yield bytes.fromhex(asset_id), path


def _openai(value: dict[str, Any]) -> _Places:
    for key in ("content", "output", "images"):
        for path, part in _parts(value.get(key), f".{key}"):
            kind = part.get("type")
            yield from _at(part, _OPENAI_FILES.get(kind, ()) if isinstance(kind, str) else (), path)
    if value.get("type") == "image_generation_call":
        yield ".result", value.get("result")


def _anthropic(value: dict[str, Any], path: str = "") -> _Places:
    for inner, block in _parts(value.get("content"), f"{path}.content"):
        yield from _at(block, ("source.data", "source.url"), inner)
        if isinstance(source := block.get("source"), dict):
            yield from _anthropic(source, f"{inner}.source")
        yield from _anthropic(block, inner)


def _gemini(value: dict[str, Any], path: str = "") -> _Places:
    for inner, part in _parts(value.get("parts"), f"{path}.parts"):
        yield from _at(part, _GEMINI_FILES, inner)
        for key in ("functionResponse", "function_response"):
            if isinstance(response := part.get(key), dict):
                yield from _gemini(response, f"{inner}.{key}")


_PLACES: dict[int, Callable[[dict[str, Any]], _Places]] = {
    FORMAT_OPENAI: _openai,
    FORMAT_ANTHROPIC: _anthropic,
    FORMAT_GEMINI: _gemini,
}


def _parts(content: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each object of a list, or the object that takes the list's place, with its path."""
    if isinstance(content, dict):
        yield path, content
    elif isinstance(content, list):
        for i, part in enumerate(content):
            if isinstance(part, dict):
                yield f"{path}[{i}]", part


def _at(part: dict[str, Any], keys: tuple[str, ...], path: str) -> _Places:
    for key in keys:
        outer, _, inner = key.partition(".")
        value = part.get(outer)
        if inner:
            value = value.get(inner) if isinstance(value, dict) else None
        yield f"{path}.{key}", value
