"""Token counts of messages: which texts count, and how they are counted.

Text that a model reads or writes counts: content, reasoning, refusals, the names and arguments of
calls, and their results. Roles, provider overhead, images, audio, files, signatures, ids and
metadata do not count.
"""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import Any, Protocol

import orjson

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_GEMINI,
    FORMAT_OPENAI,
    ROLE_UNSPECIFIED,
    Part,
)
from sessiond_server.formats.files import is_content
from sessiond_server.formats.pieces import (
    JSON,
    Call,
    Entry,
    Foreign,
    Piece,
    Result,
    Text,
    Thinking,
    is_nonmessage_item,
)
from sessiond_server.formats.read import anthropic, gemini, openai
from sessiond_server.formats.read.readable import readable

PACKAGE = "bpe_openai"
ENCODING = "o200k_base"
BYTES_A_TOKEN = 4
PIECE_CHARACTERS = 32_768
# Shorter JSON contains no files except data URLs.
FILE_CHARACTERS = 1024


class Tokenizer(Protocol):
    """Counts the tokens of texts."""

    @property
    def estimates(self) -> bool:
        """Whether count() is an estimate."""
        ...

    def count(self, texts: Sequence[str]) -> int:
        """Return the number of tokens of all texts."""
        ...


class Estimate:
    """Estimates one token for 4 bytes of UTF-8, about what o200k_base needs for English text."""

    estimates = True

    def count(self, texts: Sequence[str]) -> int:
        """Return an estimate for all texts together."""
        size = 0
        for text in texts:
            # JSON escapes can spell half of a surrogate pair, which UTF-8 cannot.
            size += len(text) if text.isascii() else len(text.encode(errors="replace"))
        return (size + BYTES_A_TOKEN - 1) // BYTES_A_TOKEN


class Vocabulary:
    """Counts with o200k_base, which is in the package bpe-openai (extra `tokens`)."""

    estimates = False

    def __init__(self) -> None:
        self._count: Callable[[str], int] = _compiled().tokenizer_for_encoding(ENCODING).count

    def count(self, texts: Sequence[str]) -> int:
        """Return the number of tokens of all texts."""
        count = 0
        for text in texts:
            # A token that is cut in two is counted twice. The length of the pieces is part of the
            # count, so it must not change.
            for start in range(0, len(text), PIECE_CHARACTERS):
                piece = text[start : start + PIECE_CHARACTERS]
                try:
                    count += self._count(piece)
                except UnicodeEncodeError:
                    # JSON escapes can spell half of a surrogate pair, which UTF-8 cannot.
                    utf16 = piece.encode("utf-16", "surrogatepass")
                    count += self._count(utf16.decode("utf-16", "replace"))
        return count


def _compiled() -> Any:
    """Return the compiled module of bpe-openai, which counts without the rest of the package.

    The package itself reads three vocabularies into dictionaries when it is imported. That takes
    0.6 s of CPU time and 80 MB in each process, and only decoding needs it.

    Raises:
        ModuleNotFoundError: if the package is not installed.
    """
    name = f"{PACKAGE}._bindings"
    if name not in sys.modules:
        package = find_spec(PACKAGE)
        paths = package.submodule_search_locations if package else None
        spec = PathFinder.find_spec(name, paths) if paths else None
        if spec is None or spec.loader is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=PACKAGE)
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def tokenizer(kind: str) -> Tokenizer:
    """Create a tokenizer.

    Args:
        kind: "o200k_base", "estimate" or "auto". "auto" = "o200k_base" if its package is installed,
            otherwise "estimate".

    Raises:
        ModuleNotFoundError: for "o200k_base" without its package.
    """
    if kind == ENCODING or (kind == "auto" and find_spec(PACKAGE)):
        return Vocabulary()
    return Estimate()


def texts_of_entry(entry: Entry) -> list[str]:
    """Return the texts of a FORMAT_OTHER message to count; none if its format is unknown."""
    texts: list[str] = []
    _add_pieces(entry.pieces, texts)
    return texts


def texts_of_json(value: dict[str, Any], message_format: int) -> list[str]:
    """Return the texts of a provider's message whose tokens are counted.

    Frequent shapes are read here, and all others by the format's reader, which is slower.

    Args:
        value: a message that the schema of its format accepts.
        message_format: the format of the message.
    """
    texts: list[str] = []
    _WALKS[message_format](value, texts)
    return texts


def texts_of_parts(parts: Sequence[Part]) -> list[str]:
    """Return the texts of a message in typed parts whose tokens are counted."""
    texts: list[str] = []
    for part in parts:
        match part.WhichOneof("kind"):
            case "text":
                texts.append(part.text)
            case "tool_call":
                texts += (part.tool_call.name, part.tool_call.arguments_json)
            case "tool_result":
                texts += texts_of_parts(part.tool_result.parts)
            case "reasoning":
                texts.append(part.reasoning.text)
            case "data":
                texts.append(part.data)
    return texts


def _openai(value: JSON, texts: list[str]) -> None:
    """Add the texts of a Chat Completions message, or of an item of the Responses API."""
    if is_nonmessage_item(value):
        entry = Entry(0, ROLE_UNSPECIFIED, FORMAT_OPENAI, "", value, [])
        openai.read(entry)
        _add_pieces(entry.pieces, texts)
        return
    content = value.get("content")
    if value["role"] in ("tool", "function"):
        _add_pieces(openai.content(content, of_tool=True), texts)
    elif isinstance(content, str):
        texts.append(content)
    else:
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and isinstance(text := part.get("text"), str):
                texts.append(text)
            else:
                _add_pieces(openai.content([part]), texts)
    _add_string(value, "refusal", texts)
    # Servers may send the same reasoning under several keys.
    for key in openai.REASONING_KEYS:
        if found := value.get(key):
            texts.append(found if isinstance(found, str) else readable(found))
            break
    for call in value.get("tool_calls") or ():
        _add_call(call.get("function") or call.get("custom"), ("arguments", "input"), texts)
    _add_call(value.get("function_call"), ("arguments",), texts)
    if audio := value.get("audio"):
        _add_string(audio, "transcript", texts)


def _anthropic(value: JSON, texts: list[str]) -> None:
    content = value.get("content")
    for block in [content] if isinstance(content, str) else content or ():
        if isinstance(block, str):
            texts.append(block)
            continue
        match block.get("type"):
            case "text" | "thinking" as kind:
                _add_string(block, kind, texts)
            case "tool_use":
                _add_call(block, ("input",), texts)
            case _:
                _add_pieces(anthropic.blocks([block]), texts)


def _gemini(value: JSON, texts: list[str]) -> None:
    parts = value.get("parts")
    for part in [parts] if isinstance(parts, dict) else parts or ():
        if not isinstance(part, dict):
            texts.append(str(part))
        elif isinstance(call := gemini.field(part, "functionCall"), dict):
            _add_call(call, ("args",), texts)
        elif isinstance(result := gemini.field(part, "functionResponse"), dict):
            _add_call(result, ("response",), texts)
        elif isinstance(text := part.get("text"), str):
            texts.append(text)
        else:
            entry = Entry(0, ROLE_UNSPECIFIED, FORMAT_GEMINI, "", {"parts": [part]}, [])
            gemini.read(entry)
            _add_pieces(entry.pieces, texts)


_WALKS: dict[int, Callable[[JSON, list[str]], None]] = {
    FORMAT_OPENAI: _openai,
    FORMAT_ANTHROPIC: _anthropic,
    FORMAT_GEMINI: _gemini,
}


def _add_pieces(pieces: Iterable[Piece], texts: list[str]) -> None:
    for piece in pieces:
        match piece:
            case Text() | Thinking() | Foreign():
                if not is_content(piece.text):
                    texts.append(piece.text)
            case Call():
                texts += (piece.name, piece.arguments)
            case Result():
                _add_pieces(piece.pieces, texts)


def _add_string(value: JSON, key: str, texts: list[str]) -> None:
    if isinstance(text := value.get(key), str):
        texts.append(text)


def _add_call(value: JSON | None, keys: Iterable[str], texts: list[str]) -> None:
    """Add the name of a call or of its result, and the values under the given keys."""
    if value:
        _add_string(value, "name", texts)
        for key in keys:
            if isinstance(item := value.get(key), str):
                texts.append(item)
            elif item is not None:
                texts.append(_compact_json(item))


def _compact_json(value: Any) -> str:
    try:
        text = orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        # orjson refuses numbers beyond 64 bits, half surrogates and deep nesting.
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if len(text) < FILE_CHARACTERS and ";base64," not in text:
        return text
    kept = _without_files(value)
    return text if kept == value else _compact_json(kept)


def _without_files(value: Any) -> Any:
    """Return JSON without the content of files."""
    match value:
        case str():
            return "" if is_content(value) else value
        case dict():
            return {key: _without_files(item) for key, item in value.items()}
        case list():
            return [_without_files(item) for item in value]
    return value
