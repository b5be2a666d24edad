"""Writes requests of Anthropic's Messages API."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC
from sessiond_server.formats.files import kind_of
from sessiond_server.formats.pairing import NO_RESULT, Answer, PairedCall, Results, Said, as_stored
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
from sessiond_server.formats.wire import stored_or_new
from sessiond_server.formats.write.arguments import object_of
from sessiond_server.formats.write.cache_markers import MarkerLimit
from sessiond_server.formats.write.request import (
    ASSISTANT_FIRST,
    BLANK,
    CONTINUE,
    IMAGES,
    SYSTEM_ROLES,
    FittedRequest,
    History,
    Steps,
    in_order,
    is_web,
    seqs_of,
)

MAX_CACHE_MARKERS = 4
_TEXT = "text"
# The keys of each block that the API accepts, without type.
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
# The calls that the provider runs itself, and their results, which stand in the same answer.
_SERVER_CALLS = {"server_tool_use", "mcp_tool_use"}
_SERVER_RESULT_KEYS = {"tool_use_id", "content", "is_error", "caller", "cache_control"}
_ONLY_USERS = {"image", "document", "search_result", "container_upload"}


@dataclass(frozen=True, slots=True)
class AnthropicDialect:
    """What the model accepts.

    Attributes:
        inline_system: whether the messages may have the role "system".
    """

    inline_system: bool = False


def fit(
    history: History,
    dialect: AnthropicDialect = AnthropicDialect(),
) -> FittedRequest:
    """Make a request that the API accepts.

    Raises:
        UnsendableHistory: if nothing of the history can be sent.
    """
    return _Writer(history, dialect).write(history)


class _Writer:
    def __init__(self, history: History, dialect: AnthropicDialect) -> None:
        self._dialect = dialect
        self._steps = Steps(
            history,
            id_pattern="[a-zA-Z0-9_-]",
            id_length=128,
            name_pattern="[a-zA-Z0-9_-]",
            name_length=128,
        )
        self._lost = self._steps.lost
        self._sent: list[JSON] = []
        self._seqs: list[tuple[int, ...]] = []
        self._server_ids: set[str] = set()
        # The results that the next message of the user begins with, and their messages.
        self._results: list[JSON] = []
        self._result_entries: list[Entry] = []

    def write(self, history: History) -> FittedRequest:
        system: list[JSON] = []
        if history.system_prompt.strip():
            system.append({"type": _TEXT, "text": history.system_prompt})
        for step in self._steps.steps:
            match step:
                case Said() if step.role in SYSTEM_ROLES and not (self._sent or self._results):
                    system += self._blocks(step.entry, step.pieces, is_text_only=True)
                case Said() if step.role in SYSTEM_ROLES:
                    self._later_system(step)
                case Said():
                    self._said(step)
                case Answer():
                    self._flush()
                    self._answer(step)
                case Results():
                    self._results = [*map(self._result, as_stored(step.calls))]
                    self._result_entries = _unique(
                        [
                            paired.result_entry
                            for paired in as_stored(step.calls)
                            if paired.result_entry
                        ]
                    )
        self._flush()
        self._complete()
        body = self._options(history.options, system)
        return FittedRequest(body | {"messages": self._sent}, self._steps.report, self._seqs)

    def _complete(self) -> None:
        """Add the messages that the API requires at the beginning and at the end."""
        sent = self._sent
        if not sent or sent[0]["role"] != "user":
            sent.insert(0, {"role": "user", "content": ASSISTANT_FIRST})
            self._seqs.insert(0, ())
            self._steps.report.add(0, ChangeKind.MESSAGE_ADDED, ASSISTANT_FIRST)
        if sent[-1]["role"] != "user":
            self._append({"role": "user", "content": CONTINUE}, [])
            self._steps.report.add(0, ChangeKind.MESSAGE_ADDED, CONTINUE)

    # What is said

    def _said(self, said: Said) -> None:
        entry = said.entry
        blocks = self._blocks(entry, said.pieces)
        if entry.format != FORMAT_ANTHROPIC:
            self._steps.lost_extras(entry)
        if entry in self._result_entries:
            # The same message has results: they come first.
            blocks = [*self._results, *blocks]
            self._results, self._result_entries = [], []
        else:
            self._flush()
        if not blocks:
            if entry is not self._steps.newest:
                self._lost(entry, ChangeKind.BLANK_OMITTED)
                return
            self._lost(entry, ChangeKind.BLANK_REPLACED)
            blocks = [{"type": _TEXT, "text": BLANK}]
        self._add(entry, "user", blocks)

    def _later_system(self, said: Said) -> None:
        """Send instructions in mid-history in their place: inline, or as what the user passes on."""
        blocks = self._blocks(said.entry, said.pieces, is_text_only=True)
        if not blocks:
            self._lost(said.entry, ChangeKind.BLANK_OMITTED)
            return
        self._flush()
        if self._dialect.inline_system:
            self._add(said.entry, "system", blocks)
            return
        self._lost(said.entry, ChangeKind.ROLE_CHANGED, "system")
        blocks[0] = {**blocks[0], "text": f"<system>\n{blocks[0]['text']}"}
        blocks[-1] = {**blocks[-1], "text": f"{blocks[-1]['text']}\n</system>"}
        self._append({"role": "user", "content": blocks}, [said.entry])

    def _flush(self) -> None:
        """Send results that no message of the user follows."""
        if self._results:
            entries, blocks = self._result_entries, self._results
            self._results, self._result_entries = [], []
            if len(entries) == 1:
                self._add(entries[0], "user", blocks)
            else:
                self._append({"role": "user", "content": blocks}, entries)

    def _append(self, message: JSON, entries: Iterable[Entry]) -> None:
        self._sent.append(message)
        self._seqs.append(seqs_of(entries))

    def _add(self, entry: Entry, role: str, blocks: list[JSON]) -> None:
        """Add a message, as it is stored if its blocks are the stored ones."""
        new: JSON = {"role": role, "content": blocks}
        if entry.format == FORMAT_ANTHROPIC:
            for key in entry.value.keys() - {"role", "content"}:
                self._lost(entry, ChangeKind.FIELD_REMOVED, key)
            stored = entry.value.get("content")
            if isinstance(stored, str) and blocks == [{"type": _TEXT, "text": stored}]:
                new["content"] = stored
            new = stored_or_new(in_order(new, entry.value), entry.value, entry.raw)
        elif len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
            new["content"] = blocks[0]["text"]
        self._append(new, [entry])

    # Answers

    def _answer(self, answer: Answer) -> None:
        blocks: list[JSON] = []
        keeps_thinking = self._keeps_thinking(answer)
        calls = iter(answer.calls)
        for entry, pieces in answer.entries:
            if len(answer.entries) > 1:
                self._lost(entry, ChangeKind.MESSAGES_MERGED)
            if entry.format != FORMAT_ANTHROPIC:
                self._steps.lost_extras(entry)
            complete = _complete_server_calls(pieces, self._server_ids)
            for piece in pieces:
                match piece:
                    case Thinking():
                        blocks += self._thinking(entry, piece, keeps_thinking)
                    case Text() | Media() | Foreign():
                        blocks += self._block(entry, piece, is_answer=True, complete=complete)
                    case _:
                        blocks.append(self._tool_use(next(calls)))
        first = answer.entries[0][0]
        if blocks and not _is_thinking(blocks[0]) and any(map(_is_thinking, blocks)):
            # The API accepts reasoning only if the answer begins with it.
            self._lost(first, ChangeKind.THINKING_OMITTED)
            blocks = [block for block in blocks if not _is_thinking(block)]
        if blocks and all(map(_is_thinking, blocks)):
            # The API refuses an answer of reasoning alone.
            self._lost(first, ChangeKind.THINKING_OMITTED)
            blocks = []
        if not blocks:
            for entry, _ in answer.entries:
                self._lost(entry, ChangeKind.MESSAGE_OMITTED)
        elif len(answer.entries) == 1:
            self._add(first, "assistant", blocks)
        else:
            self._append(
                {"role": "assistant", "content": blocks}, [entry for entry, _ in answer.entries]
            )

    def _keeps_thinking(self, answer: Answer) -> bool:
        """Whether the answer is sent unchanged, so that its signed reasoning is valid."""
        return all(
            paired.wire_id == paired.call.call_id and paired.wire_name == paired.call.name
            for paired in answer.calls
        ) and all(
            piece.maker == FORMAT_ANTHROPIC and piece.signature
            for _, pieces in answer.entries
            for piece in pieces
            if isinstance(piece, Thinking)
        )

    def _thinking(self, entry: Entry, piece: Thinking, is_kept: bool) -> Iterator[JSON]:
        if not is_kept:
            self._lost(entry, ChangeKind.THINKING_OMITTED)
        elif piece.source:
            yield self._known_keys(entry, piece.source)
        elif piece.text:
            yield {"type": "thinking", "thinking": piece.text, "signature": piece.signature}
        else:
            yield {"type": "redacted_thinking", "data": piece.signature}

    def _tool_use(self, paired: PairedCall) -> JSON:
        call = paired.call
        own = call.source if call.source and call.source.get("type") == "tool_use" else None
        if own and isinstance(own.get("input"), dict):
            arguments: JSON = own["input"]
        else:
            arguments, is_wrapped = object_of(call)
            if is_wrapped:
                self._lost(paired.entry, ChangeKind.ARGUMENTS_WRAPPED, call.name)
        new: JSON = {"type": "tool_use", "id": paired.wire_id, "name": paired.wire_name}
        new["input"] = arguments
        if own:
            kept = self._known_keys(paired.entry, own)
            new = in_order({**kept, **new}, own)
        return new

    # Results

    def _result(self, paired: PairedCall) -> JSON:
        entry, result = paired.result_entry, paired.result
        new: JSON = {"type": "tool_result", "tool_use_id": paired.wire_id}
        if entry is None or result is None:
            return new | {"content": NO_RESULT}
        own = result.source if entry.format == FORMAT_ANTHROPIC else None
        if own:
            kept = self._known_keys(entry, own)
            content = own.get("content")
            if not isinstance(content, str):
                blocks = self._blocks(entry, result.pieces)
                kept.pop("content", None)
                if blocks:
                    kept["content"] = blocks
            if not isinstance(kept.get("is_error", False), bool):
                kept.pop("is_error")
            return self._plain_error(entry, in_order({**kept, **new}, own))
        self._steps.lost_extras(entry)
        blocks = self._blocks(entry, result.pieces)
        if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
            new["content"] = blocks[0]["text"]
        elif blocks:
            new["content"] = blocks
        return self._plain_error(entry, new | ({"is_error": True} if result.is_error else {}))

    def _plain_error(self, entry: Entry, block: JSON) -> JSON:
        """Return a result of which the API accepts is_error: only text may come with it."""
        content = block.get("content")
        is_text = isinstance(content, str) or all(
            inner.get("type") == "text" for inner in objects_of(content)
        )
        if not block.get("is_error") or (content and is_text):
            return block
        self._lost(entry, ChangeKind.FIELD_CHANGED, "tool_result.is_error")
        first = {"type": _TEXT, "text": "Error:"}
        kept = {key: value for key, value in block.items() if key != "is_error"}
        return kept | {"content": [first, *objects_of(content)]}

    # Blocks

    def _blocks(
        self, entry: Entry, pieces: Sequence[Piece], *, is_text_only: bool = False
    ) -> list[JSON]:
        """Return the blocks of pieces, without blank texts, which the API refuses."""
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
            entry: its message.
            piece: what is sent.
            is_answer: whether it stands in an answer or an instruction, which have no files.
            complete: identities of the blocks of server-run calls and results that belong together.
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
        """Whether a block that only the API has can be sent as it is."""
        kind = str(block.get("type"))
        if kind in _SERVER_CALLS or kind.endswith("_tool_result"):
            return id(block) in complete
        if kind == "compaction":
            return is_answer and isinstance(block.get("content"), str)
        if kind == "search_result":
            return not is_answer and all(
                isinstance(block.get(key), str) for key in ("source", "title")
            )
        return False

    def _file(self, entry: Entry, piece: Media, own: JSON | None) -> JSON | None:
        """Return the block of a file. None = the API does not accept it."""
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

    # Options

    def _options(self, options: Mapping[str, Any], system: list[JSON]) -> JSON:
        body = dict(options)
        own = body.pop("system", None)
        if isinstance(own, str) and own.strip():
            system.insert(0, {"type": _TEXT, "text": own})
        elif isinstance(own, list):
            system[:0] = own
        if system:
            body["system"] = system
        thinking = body.get("thinking")
        if (
            isinstance(thinking, dict)
            and thinking.get("type") == "enabled"
            and self._lacks_thinking()
        ):
            del body["thinking"]
            self._steps.report.add(0, ChangeKind.THINKING_DISABLED)
        self._limit_markers(body)
        return body

    def _lacks_thinking(self) -> bool:
        """Whether a tool loop runs whose last answer does not begin with reasoning."""
        if len(self._sent) < 2:
            return False
        answer, last = self._sent[-2:]
        blocks = objects_of(answer["content"])
        return (
            answer["role"] == "assistant"
            and any(block.get("type") == "tool_result" for block in objects_of(last["content"]))
            and not (blocks and _is_thinking(blocks[0]))
        )

    def _limit_markers(self, body: JSON) -> None:
        """Leave the newest cache markers, as many as the API accepts."""
        limit = MarkerLimit(MAX_CACHE_MARKERS)
        for place in reversed(range(len(self._sent))):
            self._sent[place] = limit.apply(self._sent[place])
        for key in ("system", "tools"):
            if key in body:
                body[key] = limit.apply(body[key])
        if limit.was_exceeded:
            self._steps.report.add(0, ChangeKind.CACHE_MARKER_REMOVED)


def _is_thinking(block: JSON) -> bool:
    return block.get("type") in ("thinking", "redacted_thinking")


def _unique(entries: Sequence[Entry]) -> list[Entry]:
    return list({id(entry): entry for entry in entries}.values())


def _complete_server_calls(pieces: Sequence[Piece], used: set[str]) -> frozenset[int]:
    """Find the server-run calls that have a result behind them in the same answer.

    Args:
        pieces: of the answer.
        used: ids of calls so far; receives those of the answer.

    Returns:
        The identities of the blocks of these calls and of their results.
    """
    complete: set[int] = set()
    open_calls: dict[object, JSON] = {}
    for piece in pieces:
        if not (isinstance(piece, Foreign) and piece.source):
            continue
        block = piece.source
        if piece.kind in _SERVER_CALLS and isinstance(call_id := block.get("id"), str):
            if call_id not in used and isinstance(block.get("input"), dict):
                open_calls[call_id] = block
            used.add(call_id)
        elif piece.kind.endswith("_tool_result"):
            call = open_calls.pop(block.get("tool_use_id"), None)
            if call:
                complete |= {id(call), id(block)}
    return frozenset(complete)
