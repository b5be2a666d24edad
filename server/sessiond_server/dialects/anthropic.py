"""Writes requests of Anthropic's Messages API."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC
from sessiond_server.dialects.anthropic_blocks import AnthropicBlocks, complete_server_calls
from sessiond_server.dialects.arguments import object_of, stored_object
from sessiond_server.dialects.cache_markers import MarkerLimit
from sessiond_server.dialects.request import (
    ASSISTANT_FIRST,
    BLANK,
    CONTINUE,
    SYSTEM_ROLES,
    FittedRequest,
    History,
    in_order,
    seqs_of,
)
from sessiond_server.formats.pairing import NO_RESULT, Answer, PairedCall, Results, Said, as_stored
from sessiond_server.formats.pieces import (
    JSON,
    Entry,
    Foreign,
    Media,
    Text,
    Thinking,
    objects_of,
)
from sessiond_server.formats.report import ChangeKind

MAX_CACHE_MARKERS = 4


@dataclass(frozen=True, slots=True)
class AnthropicDialect:
    """The features that the model accepts.

    Attributes:
        inline_system: whether the messages may have the role "system".
    """

    inline_system: bool = False


TAGGED_SYSTEM = AnthropicDialect()


def fit(
    history: History,
    dialect: AnthropicDialect = AnthropicDialect(),
) -> FittedRequest:
    """Create a request that the API accepts.

    Raises:
        UnsendableHistory: if nothing of the history can be sent.
    """
    return _Writer(history, dialect).write(history)


class _Writer(AnthropicBlocks):
    def __init__(self, history: History, dialect: AnthropicDialect) -> None:
        super().__init__(history)
        self._dialect = dialect
        self._sent: list[JSON] = []
        self._seqs: list[tuple[int, ...]] = []
        self._server_ids: set[str] = set()
        # Pending results, with which the user's next message will begin, and their messages.
        self._results: list[JSON] = []
        self._result_entries: list[Entry] = []

    def write(self, history: History) -> FittedRequest:
        system: list[JSON] = []
        if history.system_prompt.strip():
            system.append({"type": "text", "text": history.system_prompt})
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
        """Add the messages that the API requires at the beginning and at the end of a history."""
        sent = self._sent
        if not sent or sent[0]["role"] != "user":
            sent.insert(0, {"role": "user", "content": ASSISTANT_FIRST})
            self._seqs.insert(0, ())
            self._steps.report.add(0, ChangeKind.MESSAGE_ADDED, ASSISTANT_FIRST)
        if sent[-1]["role"] != "user":
            self._append({"role": "user", "content": CONTINUE}, [])
            self._steps.report.add(0, ChangeKind.MESSAGE_ADDED, CONTINUE)

    # Messages of users and of the system

    def _said(self, said: Said) -> None:
        entry = said.entry
        blocks = self._blocks(entry, said.pieces)
        if entry.format != FORMAT_ANTHROPIC:
            self._steps.lost_extras(entry)
        if entry in self._result_entries:
            # The message also contains results, which must come first.
            blocks = [*self._results, *blocks]
            self._results, self._result_entries = [], []
        else:
            self._flush()
        if not blocks:
            if entry is not self._steps.newest:
                self._lost(entry, ChangeKind.BLANK_OMITTED)
                return
            self._lost(entry, ChangeKind.BLANK_REPLACED)
            blocks = [{"type": "text", "text": BLANK}]
        self._add(entry, "user", blocks)

    def _later_system(self, said: Said) -> None:
        """Send later instructions in their place: as a system message, or quoted by the user."""
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
        """Add a message, in its stored form if its blocks are the stored ones."""
        new: JSON = {"role": role, "content": blocks}
        if entry.format == FORMAT_ANTHROPIC:
            for key in entry.value.keys() - {"role", "content"}:
                self._lost(entry, ChangeKind.FIELD_REMOVED, key)
            stored = entry.value.get("content")
            if isinstance(stored, str) and blocks == [{"type": "text", "text": stored}]:
                new["content"] = stored
            new = self._steps.sent(entry, in_order(new, entry.value))
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
            complete = complete_server_calls(pieces, self._server_ids)
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
            # The API refuses an answer that consists only of reasoning.
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
        arguments = stored_object(call, own.get("input")) if own else None
        if arguments is None:
            arguments, change = object_of(call)
            if change:
                self._lost(paired.entry, change, call.name)
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
        """Return a result that may carry is_error: the API accepts only text in such a result."""
        content = block.get("content")
        is_text = isinstance(content, str) or all(
            inner.get("type") == "text" for inner in objects_of(content)
        )
        if not block.get("is_error") or (content and is_text):
            return block
        self._lost(entry, ChangeKind.FIELD_CHANGED, "tool_result.is_error")
        first = {"type": "text", "text": "Error:"}
        kept = {key: value for key, value in block.items() if key != "is_error"}
        return kept | {"content": [first, *objects_of(content)]}

    # Options

    def _options(self, options: Mapping[str, Any], system: list[JSON]) -> JSON:
        body = dict(options)
        own = body.pop("system", None)
        if isinstance(own, str) and own.strip():
            system.insert(0, {"type": "text", "text": own})
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
        """Whether a tool loop is running whose last answer does not begin with reasoning."""
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
        """Keep the last cache markers, as many as the API accepts."""
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
