"""Writes requests of the Gemini API."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sessiond.v1.message_pb2 import FORMAT_GEMINI
from sessiond_server.dialects.gemini_parts import GeminiParts, respelled
from sessiond_server.dialects.options import with_options
from sessiond_server.dialects.request import (
    ASSISTANT_FIRST,
    BLANK,
    CONTINUE,
    SYSTEM_ROLES,
    FittedRequest,
    History,
    seqs_of,
)
from sessiond_server.formats.pairing import NO_RESULT, Answer, PairedCall, Results, Said
from sessiond_server.formats.pieces import (
    JSON,
    Call,
    Entry,
    Foreign,
    Media,
    Text,
    Thinking,
    string_of,
)
from sessiond_server.formats.report import ChangeKind
from sessiond_server.formats.wire import join

# Google documents this value as the signature for calls that another model made.
NO_SIGNATURE = "skip_thought_signature_validator"


@dataclass(slots=True)
class _Content:
    """A content of the request, and the stored messages that it is built from.

    Attributes:
        role: "user" or "model".
        parts: the parts of the content.
        owners: for each part, the message that it comes from. None = it was added.
        entries: by id(), the messages of the content, in order, without duplicates.
    """

    role: str
    parts: list[JSON]
    owners: list[Entry | None]
    entries: dict[int, Entry] = field(default_factory=dict)


def fit(history: History) -> FittedRequest:
    """Create a request that the API accepts.

    Raises:
        UnsendableHistory: if nothing of the history can be sent.
    """
    return with_options(history, "gemini", lambda converted: _Writer(converted).write(converted))


class _Writer(GeminiParts):
    def __init__(self, history: History) -> None:
        super().__init__(history)
        self._contents: list[_Content] = []

    def write(self, history: History) -> FittedRequest:
        system: list[str] = []
        if history.system_prompt.strip():
            system.append(history.system_prompt)
        for step in self._steps.steps:
            match step:
                case Said() if step.role in SYSTEM_ROLES and not self._contents:
                    system += self._instructions(step)
                case Said() if step.role in SYSTEM_ROLES:
                    self._later_system(step)
                case Said():
                    self._said(step)
                case Answer():
                    self._answer(step)
                case Results():
                    moved = [self._result(paired) for paired in step.calls]
                    for entry, parts in filter(None, moved):
                        self._add(entry, "user", parts)
        self._complete()
        self._sign()
        body = _options(history.options, system)
        contents = [*map(self._content, self._contents)]
        seqs = [seqs_of(content.entries.values()) for content in self._contents]
        return FittedRequest(body | {"contents": contents}, self._steps.report, seqs)

    def _complete(self) -> None:
        """Add the contents that the API requires at the beginning and at the end of a history."""
        contents = self._contents
        if not contents or contents[0].role != "user":
            contents.insert(0, _Content("user", [{"text": ASSISTANT_FIRST}], [None]))
            self._steps.report.add(0, ChangeKind.MESSAGE_ADDED, ASSISTANT_FIRST)
        if contents[-1].role != "user":
            contents.append(_Content("user", [{"text": CONTINUE}], [None]))
            self._steps.report.add(0, ChangeKind.MESSAGE_ADDED, CONTINUE)

    def _sign(self) -> None:
        """Give the first call of each content a signature if it has none.

        The API requires it only in the current turn. Older contents get one as well, so that each
        request begins with the same text as the previous request.
        """
        for content in self._contents:
            for i, part in enumerate(content.parts):
                if not part.get("functionCall"):
                    continue
                if not part.get("thoughtSignature"):
                    content.parts[i] = part | {"thoughtSignature": NO_SIGNATURE}
                    entry = content.owners[i]
                    if entry and entry.format == FORMAT_GEMINI:
                        self._lost(entry, ChangeKind.FIELD_CHANGED, "thoughtSignature")
                break

    def _content(self, content: _Content) -> JSON:
        """Return a content of the request: the stored content if its parts are unchanged."""
        new: JSON = {"role": content.role, "parts": content.parts}
        if len(content.entries) != 1:
            return new
        (entry,) = content.entries.values()
        if entry.format != FORMAT_GEMINI:
            return new
        stored = entry.value
        if stored.get("role") is None:
            # The API requires the role in a conversation of several contents.
            self._lost(entry, ChangeKind.FIELD_CHANGED, "role")
        return self._steps.sent(entry, respelled(new, stored))

    def _add(self, entry: Entry, role: str, parts: Sequence[JSON]) -> None:
        """Add parts to the last content, or to a new one, because roles must alternate."""
        if not parts:
            return
        stored = entry.value.get("role")
        if entry.format == FORMAT_GEMINI and stored not in (None, role):
            self._lost(entry, ChangeKind.ROLE_CHANGED, str(stored))
        last = self._contents[-1] if self._contents else None
        if not (last and last.role == role):
            last = _Content(role, [], [])
            self._contents.append(last)
        if id(entry) not in last.entries:
            if len(last.entries) == 1:
                for first in last.entries.values():
                    self._lost(first, ChangeKind.MESSAGES_MERGED)
            if last.entries:
                self._lost(entry, ChangeKind.MESSAGES_MERGED)
            last.entries[id(entry)] = entry
        last.parts += parts
        last.owners += [entry] * len(parts)

    def _lose_keys(self, entry: Entry) -> None:
        """Report the keys that the API does not know, or the fields that a conversion loses."""
        if entry.format != FORMAT_GEMINI:
            self._steps.lost_extras(entry)
            return
        for key in entry.value.keys() - {"role", "parts"}:
            self._lost(entry, ChangeKind.FIELD_REMOVED, key)

    # Messages of users and of the system

    def _said(self, said: Said) -> None:
        entry = said.entry
        self._lose_keys(entry)
        parts: list[JSON] = []
        for piece in said.pieces:
            if isinstance(piece, Thinking):
                self._lost(entry, ChangeKind.THINKING_OMITTED)
            elif isinstance(piece, Text | Media | Foreign):
                parts += self._part(entry, piece)
        if not parts:
            self._lost(entry, ChangeKind.BLANK_REPLACED)
            parts = [{"text": BLANK}]
        self._add(entry, "user", parts)

    def _instructions(self, said: Said) -> list[str]:
        self._lose_keys(said.entry)
        texts = [text for text in self._steps.texts(said.entry, said.pieces) if text.strip()]
        if not texts:
            self._lost(said.entry, ChangeKind.BLANK_OMITTED)
        return texts

    def _later_system(self, said: Said) -> None:
        """Send instructions from the middle of the history in place, quoted in a user's message."""
        texts = self._instructions(said)
        if texts:
            self._lost(said.entry, ChangeKind.ROLE_CHANGED, "system")
            texts[0] = join("", ["<system>\n", texts[0]])
            texts[-1] = join("", [texts[-1], "\n</system>"])
            self._add(said.entry, "user", [{"text": text} for text in texts])

    # Answers and results

    def _answer(self, answer: Answer) -> None:
        calls = iter(answer.calls)
        for entry, pieces in answer.entries:
            self._lose_keys(entry)
            parts: list[JSON] = []
            for piece in pieces:
                match piece:
                    case Thinking():
                        parts += self._thought(entry, piece)
                    case Text() | Media() | Foreign():
                        parts += self._part(entry, piece, of_model=True)
                    case Call():
                        parts.append(self._call(next(calls)))
            if not parts:
                self._lost(entry, ChangeKind.MESSAGE_OMITTED)
            self._add(entry, "model", parts)

    def _result(self, paired: PairedCall) -> tuple[Entry, list[JSON]] | None:
        """Add a result. Return its files, which follow the results of all calls."""
        entry, result = paired.result_entry, paired.result
        inner: JSON = {"name": self._name(paired)}
        if call_id := self._call_id(paired):
            inner = {"id": call_id, **inner}
        if entry is None or result is None:
            inner["response"] = {"error": NO_RESULT}
            self._add(paired.entry, "user", [{"functionResponse": inner}])
            return None
        if entry.format == FORMAT_GEMINI and result.source:
            self._add(entry, "user", [self._own_result(entry, result, inner)])
            return None
        self._steps.lost_extras(entry)
        texts: list[str] = []
        moved: list[JSON] = []
        for piece in result.pieces:
            file = self._file(entry, piece, None) if isinstance(piece, Media) else None
            if file:
                moved.append(file)
            else:
                texts.append(self._steps.as_text(entry, piece))
        if moved:
            self._lost(entry, ChangeKind.FILE_MOVED)
            texts.append("[its files follow]")
        key = "error" if result.is_error else "output"
        inner["response"] = {key: join("\n", texts)}
        self._add(entry, "user", [{"functionResponse": inner}])
        return (entry, moved) if moved else None


def _options(options: Mapping[str, Any], system: Sequence[str]) -> JSON:
    body = dict(options)
    given = [body.pop(key, None) for key in ("systemInstruction", "system_instruction")]
    parts = [part for value in given for part in _instruction(value)]
    parts += [{"text": text} for text in system]
    if parts:
        body["systemInstruction"] = {"parts": parts}
    return body


def _instruction(value: Any) -> list[JSON]:
    """Return the parts of a system instruction in any form that Google's SDKs accept."""
    if isinstance(value, str):
        return [{"text": value}] if value.strip() else []
    if isinstance(value, list):
        return [part for item in value for part in _instruction(item)]
    if not isinstance(value, dict):
        return []
    if "parts" in value:
        return _instruction(value["parts"])
    return [value] if string_of(value.get("text")).strip() else []
