"""The content blocks of requests of Anthropic's Messages API."""

import re
from collections.abc import Iterator, Sequence

from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC
from sessiond_server.dialects.request import IMAGES, History, Steps, in_order, is_web
from sessiond_server.formats.files import kind_of
from sessiond_server.formats.pieces import (
    JSON,
    Content,
    Entry,
    Foreign,
    Media,
    Piece,
    Text,
    Thinking,
    objects_of,
)
from sessiond_server.formats.report import ChangeKind

_TEXT = "text"
# The keys that the API accepts in each type of block, except "type".
_BLOCK_KEYS = {
    "text": {"text", "citations", "cache_control"},
    "image": {"source", "cache_control"},
    "document": {"source", "title", "context", "citations", "cache_control"},
    "tool_use": {"id", "name", "input", "caller", "cache_control"},
    "tool_result": {"tool_use_id", "content", "is_error", "cache_control"},
    "thinking": {"thinking", "signature"},
    "redacted_thinking": {"data"},
    "search_result": {"source", "title", "content", "citations", "cache_control"},
    "container_upload": {"file_id", "cache_control"},
    "compaction": {"content", "encrypted_content", "cache_control"},
    "server_tool_use": {"id", "name", "input", "caller", "cache_control"},
    "mcp_tool_use": {"id", "name", "input", "server_name", "cache_control"},
}
# Blocks of calls that the provider runs itself, and of their results in the same answer.
_SERVER_IDS = {
    "server_tool_use": re.compile("srvtoolu_[a-zA-Z0-9_]+"),
    "mcp_tool_use": re.compile("mcptoolu_[a-zA-Z0-9_]+"),
}
_SERVER_RESULT_KEYS = {"tool_use_id", "content", "is_error", "caller", "cache_control"}


class AnthropicBlocks:
    """Writes the blocks of messages.

    Args:
        history: the input of the request.

    Raises:
        UnsendableHistory: if nothing of the history can be sent.
    """

    def __init__(self, history: History) -> None:
        self._steps = Steps(
            history,
            id_pattern="[a-zA-Z0-9_-]",
            id_length=128,
            name_pattern="[a-zA-Z0-9_-]",
            name_length=128,
        )
        self._lost = self._steps.lost

    def _blocks(
        self, entry: Entry, pieces: Sequence[Piece], *, is_text_only: bool = False
    ) -> list[JSON]:
        """Return the blocks of pieces, without blank texts, because the API refuses them."""
        blocks: list[JSON] = []
        for piece in pieces:
            if isinstance(piece, Thinking):
                self._lost(entry, ChangeKind.THINKING_OMITTED)
            elif isinstance(piece, Text | Media | Foreign):
                blocks += self._block(entry, piece, is_answer=is_text_only)
        return blocks

    def _block(
        self,
        entry: Entry,
        piece: Content,
        *,
        is_answer: bool = False,
        complete: frozenset[int] = frozenset(),
    ) -> Iterator[JSON]:
        """Return the block of a piece.

        Args:
            entry: the message of the piece.
            piece: the piece to send.
            is_answer: whether the piece is in an answer or an instruction, which cannot contain
                files.
            complete: ids (by id()) of the blocks of provider-run calls and results that belong
                together.
        """
        own = piece.source if entry.format == FORMAT_ANTHROPIC else None
        if isinstance(piece, Foreign) and own and self._is_sendable(own, is_answer, complete):
            yield self._known_keys(entry, own)
            return
        if isinstance(piece, Media) and not is_answer and (block := self._file(entry, piece, own)):
            yield block
            return
        is_document = own is not None and own.get("type") == "document" and not is_answer
        if isinstance(piece, Text) and own and is_document and piece.text.strip():
            yield self._known_keys(entry, own)
            return
        if isinstance(piece, Text):
            text: str = piece.text
        else:
            given = self._steps.as_text(entry, piece)
            text = given.text if isinstance(given, Text) else given
        if not text.strip():
            self._lost(entry, ChangeKind.BLANK_OMITTED)
        elif own and own.get("type") == "text" and isinstance(piece, Text):
            yield self._known_keys(entry, own)
        else:
            yield {"type": _TEXT, "text": text}

    def _is_sendable(self, block: JSON, is_answer: bool, complete: frozenset[int]) -> bool:
        """Whether a block that only this API has can be sent unchanged."""
        kind = str(block.get("type"))
        if kind in _SERVER_IDS or kind.endswith("_tool_result"):
            return id(block) in complete
        if kind == "compaction":
            return is_answer and isinstance(block.get("content"), str)
        if kind == "search_result":
            return not is_answer and all(
                isinstance(block.get(key), str) for key in ("source", "title")
            )
        return False

    def _file(self, entry: Entry, piece: Media, own: JSON | None) -> JSON | None:
        """Return the block of a file. None = the API does not accept the file."""
        media_type = self._steps.media_type(piece)
        if own and piece.file_id:
            return self._known_keys(entry, own)
        kind = kind_of(media_type) if media_type else piece.kind
        if kind == "image" and (media_type or "image/png") in IMAGES:
            source = self._source(piece, media_type or "image/png")
            new: JSON = {"type": "image", "source": source}
        elif media_type == "application/pdf" or (own and piece.kind == "file" and not media_type):
            source = self._source(piece, "application/pdf")
            new = {"type": "document", "source": source}
            if piece.name and not own:
                new["title"] = piece.name
        else:
            return None
        if source is None:
            return None
        if own and own.get("type") == new["type"]:
            stored = own.get("source")
            if isinstance(stored, dict):
                new["source"] = in_order(source, stored)
            new = in_order({**self._known_keys(entry, own), **new}, own)
        return new

    def _source(self, piece: Media, media_type: str) -> JSON | None:
        if data := self._steps.content_of(piece):
            return {"type": "base64", "media_type": media_type, "data": data}
        return {"type": "url", "url": piece.uri} if is_web(piece.uri) else None

    def _known_keys(self, entry: Entry, block: JSON) -> JSON:
        """Return a stored block without the keys that the API refuses."""
        kind = str(block.get("type"))
        known = _BLOCK_KEYS.get(kind, _SERVER_RESULT_KEYS)
        for key in block.keys() - known - {"type"}:
            self._lost(entry, ChangeKind.FIELD_REMOVED, f"{kind}.{key}")
        return {key: value for key, value in block.items() if key == "type" or key in known}


def complete_server_calls(pieces: Sequence[Piece], used: set[str]) -> frozenset[int]:
    """Find the provider-run calls whose result follows in the same answer.

    Args:
        pieces: the pieces of the answer.
        used: ids of the calls so far; receives the ids of this answer's calls.

    Returns:
        The ids (by id()) of the blocks of these calls and of their results.
    """
    complete: set[int] = set()
    open_calls: dict[object, JSON] = {}
    for piece in pieces:
        if not (isinstance(piece, Foreign) and piece.source):
            continue
        block = piece.source
        if piece.kind in _SERVER_IDS and isinstance(call_id := block.get("id"), str):
            is_named = _SERVER_IDS[piece.kind].fullmatch(call_id)
            if is_named and call_id not in used and isinstance(block.get("input"), dict):
                open_calls[call_id] = block
            used.add(call_id)
        elif piece.kind.endswith("_tool_result"):
            call = open_calls.pop(block.get("tool_use_id"), None)
            if call and _is_sendable_result(block):
                complete |= {id(call), id(block)}
    return frozenset(complete)


def _is_sendable_result(block: JSON) -> bool:
    """Whether the result of a provider-run call has the form in which the API wrote it."""
    content = block.get("content")
    return isinstance(content, dict | list) and all(
        isinstance(inner.get(key), str)
        for inner in objects_of(content)
        if inner.get("type") == "web_search_result"
        for key in ("encrypted_content", "title", "url")
    )
