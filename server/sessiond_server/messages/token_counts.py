"""Token counts of messages: which texts count, and how they are counted.

Text that a model reads or writes counts: content, reasoning, refusals, the names and arguments of
calls, and their results. Roles, provider overhead, images, audio, files, signatures, ids and
metadata do not count.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from typing import Any, Protocol

import orjson

from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC, FORMAT_GEMINI, FORMAT_OPENAI, Part

ENCODING = "o200k_base"
BYTES_A_TOKEN = 4
PIECE_CHARACTERS = 32_768
# Providers nest content within a tool's result, but not deeper.
MAX_DEPTH = 4


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
            # Half of a surrogate pair: JSON escapes can spell it, UTF-8 cannot.
            size += len(text) if text.isascii() else len(text.encode(errors="replace"))
        return (size + BYTES_A_TOKEN - 1) // BYTES_A_TOKEN


class Vocabulary:
    """Counts with o200k_base, which the package bpe-openai (extra `tokens`) contains."""

    estimates = False

    def __init__(self) -> None:
        import bpe_openai

        self._encode: Callable[[str], list[int]] = bpe_openai.get_encoding(ENCODING).encode_ordinary

    def count(self, texts: Sequence[str]) -> int:
        """Return the number of tokens of all texts."""
        count = 0
        for text in texts:
            # The package refuses texts above a million characters or 200,000 tokens. A token that
            # a cut divides is counted twice.
            for start in range(0, len(text), PIECE_CHARACTERS):
                piece = text[start : start + PIECE_CHARACTERS]
                try:
                    count += len(self._encode(piece))
                except UnicodeEncodeError:
                    count += len(self._encode(piece.encode(errors="replace").decode()))
        return count


def tokenizer(kind: str) -> Tokenizer:
    """Create a tokenizer.

    Args:
        kind: "o200k_base"; "estimate"; or "auto" for the former if its package is installed.

    Raises:
        ModuleNotFoundError: for "o200k_base" without its package.
    """
    if kind == ENCODING or (kind == "auto" and find_spec("bpe_openai")):
        return Vocabulary()
    return Estimate()


def texts_of_json(value: dict[str, Any], message_format: int) -> list[str]:
    """Return the texts of a provider's message that count.

    Values that do not have the documented shape are skipped.
    """
    texts: list[str] = []
    _WALKS[message_format](value, texts)
    return texts


def texts_of_parts(parts: Sequence[Part]) -> list[str]:
    """Return the texts of a message in parts that count."""
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


def _openai(value: dict[str, Any], texts: list[str]) -> None:
    """A Chat Completions message, or an item of the Responses API."""
    # The name of a message's author does not count; that of a call does.
    _add_values(value, _OPENAI_KEYS if "role" in value else ("name", *_OPENAI_KEYS), texts)
    for call in _objects(value.get("tool_calls")):
        for kind in ("function", "custom"):
            _add_values(call.get(kind), _OPENAI_CALL_KEYS, texts)
    _add_values(value.get("function_call"), _OPENAI_CALL_KEYS, texts)


def _anthropic(value: dict[str, Any], texts: list[str], depth: int = 0) -> None:
    content = value.get("content")
    if isinstance(content, str):
        texts.append(content)
    for block in _objects(content):
        _add_strings(block, ("text", "thinking", "name"), texts)
        if isinstance(arguments := block.get("input"), dict):
            texts.append(_compact_json(arguments))
        if "content" in block and depth < MAX_DEPTH:
            _anthropic(block, texts, depth + 1)


def _gemini(value: dict[str, Any], texts: list[str]) -> None:
    for part in _objects(value.get("parts")):
        _add_strings(part, ("text",), texts)
        for kind, keys in _GEMINI_PARTS.items():
            _add_values(part.get(kind), keys, texts)


_OPENAI_KEYS = (
    "content",
    "refusal",
    "reasoning",
    "reasoning_content",
    "arguments",
    "input",
    "output",
    "summary",
    "code",
)
_OPENAI_CALL_KEYS = ("name", "arguments", "input")
_GEMINI_PARTS = {
    "functionCall": ("name", "args"),
    "functionResponse": ("name", "response"),
    "executableCode": ("code",),
    "codeExecutionResult": ("output",),
}
_WALKS: dict[int, Callable[[dict[str, Any], list[str]], None]] = {
    FORMAT_OPENAI: _openai,
    FORMAT_ANTHROPIC: _anthropic,
    FORMAT_GEMINI: _gemini,
}


def _add_values(value: Any, keys: Iterable[str], texts: list[str]) -> None:
    """Add the values of an object's keys, if it is an object."""
    if isinstance(value, dict):
        for key in keys:
            if key in value:
                _add(value[key], texts)


def _add_strings(value: dict[str, Any], keys: Iterable[str], texts: list[str]) -> None:
    """Add the values of an object's keys that are strings."""
    texts += (text for key in keys if isinstance(text := value.get(key), str))


def _add(value: Any, texts: list[str]) -> None:
    """Add a text, an object (as compact JSON), or a list of content parts of either API."""
    if isinstance(value, str):
        texts.append(value)
    elif isinstance(value, dict):
        texts.append(_compact_json(value))
    else:
        for part in _objects(value):
            _add_strings(part, ("text", "refusal"), texts)


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _compact_json(value: dict[str, Any]) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        # orjson refuses numbers beyond 64 bits, half surrogates and deep nesting.
        try:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        except RecursionError:
            return ""
