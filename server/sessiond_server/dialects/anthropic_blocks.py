"""The content blocks of requests of Anthropic's Messages API."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby

from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC
from sessiond_server.dialects.anthropic_files import AnthropicFiles, text_document
from sessiond_server.dialects.anthropic_shapes import (
    BLOCKS,
    RESULT_OF_SERVER_TOOL,
    SERVER_CALL,
    SERVER_RESULTS,
)
from sessiond_server.dialects.request import History, Steps, in_order
from sessiond_server.dialects.shapes import Misfit, Shape
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
    string_of,
)
from sessiond_server.formats.read.anthropic import blocks as read_blocks
from sessiond_server.formats.report import ChangeKind

_SERVER_ID = re.compile("srvtoolu_[a-zA-Z0-9_]+")
_ANYWHERE: Collection[str] = ("search_result",)
# The keys of a block that are kept if a block of another type replaces it.
_COMMON_KEYS = ("cache_control",)


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
        self._omits_signed = history.omits_signed
        self._files = AnthropicFiles(self._steps)
        self._tools = {
            string_of(tool.get("name")) for tool in objects_of(history.options.get("tools"))
        }
        # Ids of provider-run calls: those that were read, and those that are sent.
        self._server_ids: set[str] = set()
        self._sent_server_ids: set[str] = set()

    def _blocks(
        self,
        entry: Entry,
        pieces: Sequence[Piece],
        *,
        is_text_only: bool = False,
        kinds: Collection[str] = _ANYWHERE,
    ) -> list[JSON]:
        """Return the blocks of pieces, without blank texts, because the API refuses them.

        Args:
            entry: the message of the pieces.
            pieces: the pieces.
            is_text_only: whether the blocks must be texts.
            kinds: types of the API's own blocks that are allowed in addition to texts and files.
        """
        blocks: list[JSON] = []
        is_own = entry.format == FORMAT_ANTHROPIC and not is_text_only
        for container, grouped in groupby(pieces, lambda piece: _Same(_container_of(piece))):
            group = [piece for piece in grouped if isinstance(piece, Text | Media | Foreign)]
            if container.value is not None and is_own:
                blocks += self._document(entry, container.value, group)
                continue
            for piece in group:
                blocks += self._block(entry, piece, is_text_only=is_text_only, kinds=kinds)
        if any(isinstance(piece, Thinking) for piece in pieces):
            self._lost(entry, ChangeKind.THINKING_OMITTED)
        return blocks

    def _block(
        self,
        entry: Entry,
        piece: Content,
        *,
        is_text_only: bool = False,
        kinds: Collection[str] = _ANYWHERE,
    ) -> Iterator[JSON]:
        """Return the block of a piece; see _blocks()."""
        own = piece.source if entry.format == FORMAT_ANTHROPIC else None
        why = ""
        if isinstance(piece, Text):
            yield from self._text(entry, piece, None if is_text_only and _is_file(own) else own)
            return
        if isinstance(piece, Media) and not is_text_only:
            made, why = self._files.block(piece, own)
            if made and (block := self._of_own(entry, piece, made, own)):
                yield block
                return
        is_sendable = own and not is_text_only and self._may_send(own, kinds)
        if own and is_sendable and (fitted := self._fitted(entry, own)):
            yield fitted
            return
        yield from self._text(entry, Text(self._steps.as_text(entry, piece, why)), None)

    def _text(self, entry: Entry, piece: Text, own: JSON | None) -> Iterator[JSON]:
        if not piece.text.strip():
            self._lost(entry, ChangeKind.BLANK_OMITTED)
            return
        block: JSON | None = None
        kind = own.get("type") if own else None
        if own and kind == "text":
            block = self._fitted(entry, own)
        elif own and kind == "document" and not self._files.is_surplus(piece):
            source = in_order(text_document(piece.text)["source"], _source_of(own))
            block = self._fitted(entry, {**own, "source": source})
        yield block or {"type": "text", "text": piece.text}

    def _document(self, entry: Entry, own: JSON, pieces: Sequence[Content]) -> list[JSON]:
        """Return the block of a document that consists of texts and images."""
        blocks = [block for piece in pieces for block in self._block(entry, piece, kinds=())]
        # A document may contain only texts and images; everything else is written after it.
        inner = [block for block in blocks if block["type"] in ("text", "image")]
        rest = [block for block in blocks if block["type"] not in ("text", "image")]
        if not inner or self._files.is_surplus(own):
            return blocks
        source = _source_of(own)
        content = source.get("content")
        is_string = isinstance(content, str) and inner == [{"type": "text", "text": content}]
        new = {"type": "content", "content": content if is_string else inner}
        block = self._fitted(entry, {**own, "source": in_order(new, source)})
        return [block, *rest] if block else blocks

    def _of_own(self, entry: Entry, piece: Media, made: JSON, own: JSON | None) -> JSON | None:
        """Return the block of a file with the stored keys that the API accepts."""
        new = dict(made)
        if own and own.get("type") == new["type"]:
            if isinstance(new.get("source"), dict):
                new["source"] = in_order(new["source"], _source_of(own))
            new = in_order({**own, **new}, own)
        elif own:
            new |= {key: own[key] for key in _COMMON_KEYS if key in own}
        elif piece.name and new["type"] == "document":
            new["title"] = piece.name
        else:
            self._steps.name_lost(entry, piece)
        return self._fitted(entry, new)

    def _may_send(self, block: JSON, kinds: Collection[str]) -> bool:
        """Whether a block in the API's own form may be sent where the types `kinds` are allowed."""
        kind = string_of(block.get("type"))
        if kind == "tool_reference" and string_of(block.get("tool_name")) not in self._tools:
            # The API refuses a reference to a tool that the request does not define.
            return False
        return kind in kinds

    def _fitted(self, entry: Entry, block: JSON, shape: Shape | None = None) -> JSON | None:
        """Return a block without the parts that the API refuses. None = it refuses the block."""
        kind = string_of(block.get("type"))
        left_out: list[str] = []
        try:
            fitted = (shape or BLOCKS[kind])(block, kind, left_out.append)
        except (Misfit, KeyError):
            return None
        for path in left_out:
            self._lost(entry, ChangeKind.FIELD_REMOVED, path)
        assert isinstance(fitted, dict)  # noqa: S101
        return fitted

    # Calls that the provider runs

    def _server_blocks(self, entry: Entry, pieces: Sequence[Piece]) -> Mapping[int, JSON]:
        """Return an answer's provider-run calls that have a result, and their results.

        Returns:
            The blocks to send, by the id() of the stored block.
        """
        if entry.format != FORMAT_ANTHROPIC or self._omits_signed:
            return {}
        pairs: list[tuple[JSON, JSON]] = []
        open_calls: dict[str, JSON] = {}
        for piece in pieces:
            block = piece.source if isinstance(piece, Foreign) else None
            if not block:
                continue
            kind = string_of(block.get("type"))
            if kind == "server_tool_use":
                call_id = string_of(block.get("id"))
                if _SERVER_ID.fullmatch(call_id) and call_id not in self._server_ids:
                    open_calls[call_id] = block
                self._server_ids.add(call_id)
            elif kind in SERVER_RESULTS:
                call = open_calls.pop(string_of(block.get("tool_use_id")), None)
                if call and RESULT_OF_SERVER_TOOL.get(string_of(call.get("name"))) == kind:
                    pairs.append((call, block))
        sent: dict[int, JSON] = {}
        for call, block in pairs:
            result = self._server_result(entry, block)
            made = self._fitted(entry, call, SERVER_CALL) if result else None
            if made and result:
                self._sent_server_ids.add(made["id"])
                sent |= {id(call): made, id(block): result}
        return {place: self._with_caller(entry, block) for place, block in sent.items()}

    def _server_result(self, entry: Entry, block: JSON) -> JSON | None:
        fitted = self._fitted(entry, block, SERVER_RESULTS[block["type"]])
        content = fitted.get("content") if fitted else None
        if fitted and isinstance(content, dict) and content["type"] == "web_fetch_result":
            stored = content["content"]
            documents = self._blocks(entry, [*read_blocks([stored])])
            if len(documents) != 1 or documents[0]["type"] != "document":
                return None
            content = {**content, "content": documents[0]}
            fitted = {**fitted, "content": content}
        if fitted and isinstance(content, dict):
            references = objects_of(content.get("tool_references"))
            if any(reference["tool_name"] not in self._tools for reference in references):
                return None
        return fitted

    def _with_caller(self, entry: Entry, block: JSON) -> JSON:
        """Return a call. If its `caller` names a provider-run call that is not sent, remove it."""
        caller = block.get("caller")
        tool_id = string_of(caller.get("tool_id")) if isinstance(caller, dict) else ""
        if not tool_id or tool_id in self._sent_server_ids:
            return block
        self._lost(entry, ChangeKind.FIELD_REMOVED, f"{block['type']}.caller")
        return {key: value for key, value in block.items() if key != "caller"}


class _Same:
    """Wraps an object. Two wrappers are equal only if they wrap the identical object."""

    def __init__(self, value: JSON | None) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _container_of(piece: Piece) -> JSON | None:
    return piece.container if isinstance(piece, Text | Media | Foreign) else None


def _source_of(block: JSON) -> JSON:
    source = block.get("source")
    return source if isinstance(source, dict) else {}


def _is_file(block: JSON | None) -> bool:
    return block is not None and block.get("type") != "text"
