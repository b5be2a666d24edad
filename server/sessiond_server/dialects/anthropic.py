"""Writes requests of Anthropic's Messages API."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from operator import attrgetter

from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC
from sessiond_server.dialects.anthropic_blocks import AnthropicBlocks
from sessiond_server.dialects.anthropic_options import fit_options, is_thinking
from sessiond_server.dialects.arguments import object_of, stored_object
from sessiond_server.dialects.cache_markers import limit_markers
from sessiond_server.dialects.message_limit import limited
from sessiond_server.dialects.options import with_options
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
    Call,
    Entry,
    Foreign,
    Media,
    Text,
    Thinking,
    objects_of,
)
from sessiond_server.formats.report import ChangeKind
from sessiond_server.formats.wire import join

MAX_MESSAGES = 100_000
# Types of the API's own blocks that a result may contain, in addition to texts and files.
_IN_RESULTS = ("search_result", "tool_reference")


@dataclass(frozen=True, slots=True)
class AnthropicDialect:
    """The features that the model accepts.

    Attributes:
        inline_system: whether the messages may have the role "system".
    """

    inline_system: bool = False


@dataclass(frozen=True, slots=True)
class _Sent:
    """A message of the request.

    Attributes:
        message: the JSON.
        entries: the stored messages that it is built from.
        is_system: whether the message contains instructions from the middle of the history.
            _place_system() decides on their role.
    """

    message: JSON
    entries: Sequence[Entry] = ()
    is_system: bool = False

    @property
    def role(self) -> str:
        return str(self.message["role"])


def fit(
    history: History,
    dialect: AnthropicDialect = AnthropicDialect(),
) -> FittedRequest:
    """Create a request that the API accepts.

    Raises:
        UnsendableHistory: if nothing of the history can be sent.
    """
    return with_options(
        history, "anthropic", lambda converted: _Writer(converted, dialect).write(converted)
    )


class _Writer(AnthropicBlocks):
    def __init__(self, history: History, dialect: AnthropicDialect) -> None:
        super().__init__(history)
        self._dialect = dialect
        self._sent: list[_Sent] = []
        # The results that are not sent yet, and the stored messages that contain them. The user's
        # next message will begin with these results.
        self._results: list[JSON] = []
        self._result_entries: dict[int, Entry] = {}

    def write(self, history: History) -> FittedRequest:
        system: list[JSON] = []
        if history.system_prompt.strip():
            system.append({"type": "text", "text": history.system_prompt})
        for step in self._steps.steps:
            match step:
                case Said() if step.role in SYSTEM_ROLES and not (self._sent or self._results):
                    system += self._instructions(step)
                case Said() if step.role in SYSTEM_ROLES:
                    self._later_system(step)
                case Said():
                    self._said(step)
                case Answer():
                    self._flush()
                    self._answer(step)
                case Results():
                    calls = as_stored(step.calls)
                    self._results = [*map(self._result, calls)]
                    entries = (paired.result_entry for paired in calls)
                    self._result_entries = {id(entry): entry for entry in entries if entry}
        self._flush()
        self._limit()
        self._place_system()
        self._complete()
        messages = [sent.message for sent in self._sent]
        body = fit_options(history.options, system, messages, self._steps.report)
        body, messages, changes = limit_markers(body, messages)
        for path in changes:
            kind = ChangeKind.FIELD_CHANGED if path else ChangeKind.CACHE_MARKER_REMOVED
            self._steps.report.add(0, kind, path)
        seqs = [seqs_of(sent.entries) for sent in self._sent]
        return FittedRequest(body | {"messages": messages}, self._steps.report, seqs)

    def _limit(self) -> None:
        """Leave out the oldest messages if there are too many; calls stay with their results."""
        groups: list[list[_Sent]] = []
        for sent in self._sent:
            blocks = objects_of(sent.message["content"])
            if groups and blocks and blocks[0].get("type") == "tool_result":
                groups[-1].append(sent)
            else:
                groups.append([sent])
        # One message may be added at the beginning, and one at the end.
        as_sent = [[(sent.message, seqs_of(sent.entries)) for sent in group] for group in groups]
        kept = limited(as_sent, MAX_MESSAGES - 2, self._steps.report, is_instruction=_is_system)
        stored = {id(sent.message): sent for sent in self._sent}
        self._sent = [stored.get(id(message)) or _Sent(message) for message, _ in kept]

    def _complete(self) -> None:
        """Add the messages that the API requires at the beginning and at the end of a history."""
        if not self._sent or self._sent[0].role != "user":
            self._sent.insert(0, _Sent({"role": "user", "content": ASSISTANT_FIRST}))
            self._steps.report.add(0, ChangeKind.MESSAGE_ADDED, ASSISTANT_FIRST)
        if self._sent[-1].role == "assistant":
            self._sent.append(_Sent({"role": "user", "content": CONTINUE}))
            self._steps.report.add(0, ChangeKind.MESSAGE_ADDED, CONTINUE)

    # Messages of users and of the system

    def _said(self, said: Said) -> None:
        entry = said.entry
        blocks = self._blocks(entry, said.pieces)
        if entry.format != FORMAT_ANTHROPIC:
            self._steps.lost_extras(entry)
        if id(entry) in self._result_entries:
            # The message also contains results, which must come first.
            blocks = [*self._results, *blocks]
            others = [other for other in self._result_entries.values() if other is not entry]
            self._results, self._result_entries = [], {}
            if others:
                for merged in (*others, entry):
                    self._lost(merged, ChangeKind.MESSAGES_MERGED)
                self._sent.append(_Sent({"role": "user", "content": blocks}, [*others, entry]))
                return
        else:
            self._flush()
        if not blocks:
            # Always add this text, so that later messages do not change how a history begins.
            self._lost(entry, ChangeKind.BLANK_REPLACED)
            blocks = [{"type": "text", "text": BLANK}]
        self._add(entry, "user", blocks)

    def _instructions(self, said: Said) -> list[JSON]:
        entry = said.entry
        blocks = objects_of(entry.value.get("content"))
        if entry.format == FORMAT_ANTHROPIC:
            self._lose_keys(entry)
        if entry.format != FORMAT_ANTHROPIC or any(block.get("type") != "text" for block in blocks):
            # Instructions are sent as text only, so documents lose their form.
            self._steps.lost_extras(entry)
        return self._blocks(entry, said.pieces, is_text_only=True)

    def _lose_keys(self, entry: Entry) -> None:
        for key in entry.value.keys() - {"role", "content"}:
            self._lost(entry, ChangeKind.FIELD_REMOVED, key)

    def _later_system(self, said: Said) -> None:
        """Add later instructions in their place; _place_system() decides on their role."""
        blocks = self._instructions(said)
        if not blocks:
            self._lost(said.entry, ChangeKind.BLANK_OMITTED)
            return
        self._flush()
        message = {"role": "system", "content": blocks}
        self._sent.append(_Sent(message, [said.entry], is_system=True))

    def _place_system(self) -> None:
        """Send later instructions as system messages, or quoted in messages of the user.

        The API accepts one system message between a user's message and an answer, or at the end.
        """
        groups = [
            (is_system, [*group])
            for is_system, group in groupby(self._sent, attrgetter("is_system"))
        ]
        placed: list[_Sent] = []
        for place, (is_system, group) in enumerate(groups):
            if not is_system:
                placed += group
                continue
            is_after_user = bool(placed) and placed[-1].role == "user"
            is_before_answer = place + 1 == len(groups) or groups[place + 1][1][0].role != "user"
            if self._dialect.inline_system and is_after_user and is_before_answer:
                placed.append(self._system(group))
            else:
                placed += map(self._quoted, group)
        self._sent = placed

    def _system(self, group: Sequence[_Sent]) -> _Sent:
        """Return one system message for instructions that follow each other."""
        entries = [entry for sent in group for entry in sent.entries]
        blocks = [*chain.from_iterable(sent.message["content"] for sent in group)]
        if len(entries) == 1:
            return _Sent(self._message(entries[0], "system", blocks), entries)
        for entry in entries:
            self._lost(entry, ChangeKind.MESSAGES_MERGED)
        return _Sent({"role": "system", "content": blocks}, entries)

    def _quoted(self, sent: _Sent) -> _Sent:
        """Return a user's message that contains the instructions, marked as such."""
        [entry] = sent.entries
        blocks = [*sent.message["content"]]
        self._lost(entry, ChangeKind.ROLE_CHANGED, "system")
        blocks[0] = {**blocks[0], "text": join("\n", ["<system>", blocks[0]["text"]])}
        blocks[-1] = {**blocks[-1], "text": join("\n", [blocks[-1]["text"], "</system>"])}
        return _Sent({"role": "user", "content": blocks}, [entry])

    def _flush(self) -> None:
        """Send results that are not followed by a message of the user."""
        if self._results:
            entries, blocks = [*self._result_entries.values()], self._results
            self._results, self._result_entries = [], {}
            if len(entries) == 1:
                self._add(entries[0], "user", blocks)
            else:
                for entry in entries:
                    self._lost(entry, ChangeKind.MESSAGES_MERGED)
                self._sent.append(_Sent({"role": "user", "content": blocks}, entries))

    def _add(self, entry: Entry, role: str, blocks: list[JSON]) -> None:
        self._sent.append(_Sent(self._message(entry, role, blocks), [entry]))

    def _message(self, entry: Entry, role: str, blocks: list[JSON]) -> JSON:
        """Return a message of the request: the stored message if its blocks are unchanged."""
        new: JSON = {"role": role, "content": blocks}
        if entry.format == FORMAT_ANTHROPIC:
            self._lose_keys(entry)
            stored = entry.value.get("content")
            if isinstance(stored, str) and blocks == [{"type": "text", "text": stored}]:
                new["content"] = stored
            return self._steps.sent(entry, in_order(new, entry.value))
        if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
            new["content"] = blocks[0]["text"]
        return new

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
            server_blocks = self._server_blocks(entry, pieces)
            for piece in pieces:
                match piece:
                    case Thinking():
                        blocks += self._thinking(entry, piece, keeps_thinking)
                    case Call():
                        blocks.append(self._tool_use(next(calls)))
                    case Foreign() if made := server_blocks.get(id(piece.source)):
                        blocks.append(made)
                    case Text() | Media() | Foreign():
                        blocks += self._block(entry, piece, is_text_only=True)
        first = answer.entries[0][0]
        if blocks and not is_thinking(blocks[0]) and any(map(is_thinking, blocks)):
            # The API accepts reasoning only if the answer begins with it.
            self._lost(first, ChangeKind.THINKING_OMITTED)
            blocks = [block for block in blocks if not is_thinking(block)]
        while blocks and is_thinking(blocks[-1]):
            # The API refuses an answer that ends with reasoning.
            self._lost(first, ChangeKind.THINKING_OMITTED)
            blocks.pop()
        if not blocks:
            for entry, _ in answer.entries:
                self._lost(entry, ChangeKind.MESSAGE_OMITTED)
        elif len(answer.entries) == 1:
            self._add(first, "assistant", blocks)
        else:
            message = {"role": "assistant", "content": blocks}
            self._sent.append(_Sent(message, [entry for entry, _ in answer.entries]))

    def _keeps_thinking(self, answer: Answer) -> bool:
        """Whether the answer is sent unchanged, so that its signed reasoning is valid."""
        return (
            not self._omits_signed
            and all(
                paired.wire_id == paired.call.call_id and paired.wire_name == paired.call.name
                for paired in answer.calls
            )
            and all(
                piece.maker == FORMAT_ANTHROPIC and piece.signature
                for _, pieces in answer.entries
                for piece in pieces
                if isinstance(piece, Thinking)
            )
        )

    def _thinking(self, entry: Entry, piece: Thinking, is_kept: bool) -> Iterator[JSON]:
        block = piece.source
        if block is None and piece.text:
            block = {"type": "thinking", "thinking": piece.text, "signature": piece.signature}
        elif block is None:
            block = {"type": "redacted_thinking", "data": piece.signature}
        if is_kept and (fitted := self._fitted(entry, block)):
            yield fitted
        else:
            self._lost(entry, ChangeKind.THINKING_OMITTED)

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
            kept = self._with_caller(paired.entry, {**own, **new})
            new = self._fitted(paired.entry, in_order(kept, own)) or new
        return new

    # Results

    def _result(self, paired: PairedCall) -> JSON:
        entry, result = paired.result_entry, paired.result
        new: JSON = {"type": "tool_result", "tool_use_id": paired.wire_id}
        if entry is None or result is None:
            return new | {"content": NO_RESULT}
        own = result.source if entry.format == FORMAT_ANTHROPIC else None
        if own:
            kept = {**own, **new}
            if not isinstance(own.get("content"), str):
                kinds = _IN_RESULTS + (("browser_state",) if own.get("toolset_name") else ())
                blocks = self._blocks(entry, result.pieces, kinds=kinds)
                kept.pop("content", None)
                if blocks:
                    kept["content"] = blocks
            fitted = self._fitted(entry, in_order(kept, own))
            return self._plain_error(entry, fitted or new)
        self._steps.lost_extras(entry)
        blocks = self._blocks(entry, result.pieces)
        if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
            new["content"] = blocks[0]["text"]
        elif blocks:
            new["content"] = blocks
        return self._plain_error(entry, new | ({"is_error": True} if result.is_error else {}))

    def _plain_error(self, entry: Entry, block: JSON) -> JSON:
        """Replace is_error by a text, unless the result consists of text.

        The API accepts only text in a result with is_error.
        """
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


def _is_system(message: JSON) -> bool:
    return bool(message["role"] == "system")
