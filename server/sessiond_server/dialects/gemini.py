"""Writes requests of the Gemini API."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sessiond.v1.message_pb2 import FORMAT_GEMINI
from sessiond_server.dialects.arguments import is_deeper, object_of
from sessiond_server.dialects.request import (
    ASSISTANT_FIRST,
    BLANK,
    CONTINUE,
    SYSTEM_ROLES,
    FittedRequest,
    History,
    Steps,
    in_order,
    seqs_of,
)
from sessiond_server.formats.pairing import NO_RESULT, Answer, PairedCall, Results, Said
from sessiond_server.formats.pieces import (
    JSON,
    Content,
    Entry,
    Foreign,
    Media,
    Piece,
    Result,
    Text,
    Thinking,
)
from sessiond_server.formats.read.gemini import camel
from sessiond_server.formats.report import ChangeKind
from sessiond_server.formats.wire import stored_or_new

# Google documents this value as the signature for calls that another model made.
NO_SIGNATURE = "skip_thought_signature_validator"
_PART_KEYS = frozenset(
    {"text", "thought", "thoughtSignature", "inlineData", "fileData", "functionCall"}
    | {"functionResponse", "executableCode", "codeExecutionResult", "videoMetadata"}
    | {"mediaResolution"}
)
_INNER_KEYS = {
    "inlineData": {"mimeType", "data"},
    "fileData": {"mimeType", "fileUri"},
    "functionCall": {"id", "name", "args"},
    "functionResponse": {"id", "name", "response", "parts", "willContinue", "scheduling"},
    "executableCode": {"language", "code", "id"},
    "codeExecutionResult": {"outcome", "output", "id"},
}
_NAME_START = re.compile("[a-zA-Z_]")
MAX_NAME = 64
# Maximum depth of the arguments and results of tools; the API refuses requests with more than 100
# levels in total.
MAX_DEPTH = 80
_MEDIA = re.compile(r"image/(png|jpeg|webp|heic|heif)|audio/.+|video/.+|application/pdf|text/.+")


@dataclass(slots=True)
class _Content:
    """A content of the request, and the stored messages that it is built from."""

    role: str
    parts: list[JSON]
    entries: list[Entry]


def fit(history: History) -> FittedRequest:
    """Create a request that the API accepts.

    Raises:
        UnsendableHistory: if nothing of the history can be sent.
    """
    return _Writer(history).write(history)


class _Writer:
    def __init__(self, history: History) -> None:
        self._steps = Steps(
            history,
            id_pattern=r"[\x21-\x7e]",
            id_length=64,
            name_pattern="[a-zA-Z0-9_.:-]",
            name_length=MAX_NAME,
        )
        self._lost = self._steps.lost
        self._contents: list[_Content] = []

    def write(self, history: History) -> FittedRequest:
        system: list[JSON] = []
        if history.system_prompt.strip():
            system.append({"text": history.system_prompt})
        for step in self._steps.steps:
            match step:
                case Said() if step.role in SYSTEM_ROLES and not self._contents:
                    system += self._texts(step.entry, step.pieces)
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
        self._sign_current_turn()
        body = _options(history.options, system)
        contents = [*map(self._content, self._contents)]
        seqs = [seqs_of(content.entries) for content in self._contents]
        return FittedRequest(body | {"contents": contents}, self._steps.report, seqs)

    def _complete(self) -> None:
        """Add the contents that the API requires at the beginning and at the end of a history."""
        contents = self._contents
        if not contents or contents[0].role != "user":
            contents.insert(0, _Content("user", [{"text": ASSISTANT_FIRST}], []))
            self._steps.report.add(0, ChangeKind.MESSAGE_ADDED, ASSISTANT_FIRST)
        if contents[-1].role != "user":
            contents.append(_Content("user", [{"text": CONTINUE}], []))
            self._steps.report.add(0, ChangeKind.MESSAGE_ADDED, CONTINUE)

    def _sign_current_turn(self) -> None:
        """Mark the first call of each step since the last prompt if the call has no signature."""
        for content in reversed(self._contents):
            is_prompt = content.role == "user" and not any(
                part.get("functionResponse") for part in content.parts
            )
            if is_prompt:
                return
            for i, part in enumerate(content.parts):
                if part.get("functionCall"):
                    if not part.get("thoughtSignature"):
                        content.parts[i] = part | {"thoughtSignature": NO_SIGNATURE}
                        for entry in content.entries[:1]:
                            self._lost(entry, ChangeKind.FIELD_CHANGED, "thoughtSignature")
                    break

    def _content(self, content: _Content) -> JSON:
        """Return a content, in its stored form if its parts are the stored ones."""
        new: JSON = {"role": content.role, "parts": content.parts}
        if len(content.entries) != 1:
            return new
        entry = content.entries[0]
        if entry.format != FORMAT_GEMINI:
            return new
        if "role" not in entry.value and content.role == "user":
            del new["role"]
        elif entry.value.get("role") != content.role:
            self._lost(entry, ChangeKind.ROLE_CHANGED, str(entry.value.get("role")))
        return stored_or_new(_respelled(new, entry.value), entry.value, entry.raw)

    def _add(self, entry: Entry, role: str, parts: Sequence[JSON]) -> None:
        """Add parts to the last content, or to a new one, because roles must alternate."""
        last = self._contents[-1] if self._contents else None
        if last and last.role == role:
            last.parts += parts
            if not any(known is entry for known in last.entries):
                last.entries.append(entry)
                for merged in last.entries:
                    self._lost(merged, ChangeKind.MESSAGES_MERGED)
        elif parts:
            self._contents.append(_Content(role, [*parts], [entry]))

    # Messages of users and of the system

    def _said(self, said: Said) -> None:
        entry = said.entry
        if entry.format != FORMAT_GEMINI:
            self._steps.lost_extras(entry)
        else:
            for key in entry.value.keys() - {"role", "parts"}:
                self._lost(entry, ChangeKind.FIELD_REMOVED, key)
        parts = [*self._parts(entry, said.pieces)]
        if not parts:
            if entry is not self._steps.newest:
                self._lost(entry, ChangeKind.BLANK_OMITTED)
                return
            self._lost(entry, ChangeKind.BLANK_REPLACED)
            parts = [{"text": BLANK}]
        self._add(entry, "user", parts)

    def _later_system(self, said: Said) -> None:
        """Send instructions from mid-history in their place, quoted by the user."""
        parts = self._texts(said.entry, said.pieces)
        if not parts:
            self._lost(said.entry, ChangeKind.BLANK_OMITTED)
            return
        self._lost(said.entry, ChangeKind.ROLE_CHANGED, "system")
        parts[0] = {"text": f"<system>\n{parts[0]['text']}"}
        parts[-1] = {"text": f"{parts[-1]['text']}\n</system>"}
        self._add(said.entry, "user", parts)

    def _texts(self, entry: Entry, pieces: Sequence[Piece]) -> list[JSON]:
        """Return the parts of an instruction, which may contain only text."""
        texts = [
            self._text(entry, piece)
            for piece in pieces
            if isinstance(piece, Text | Media | Foreign)
        ]
        return [{"text": text} for text in texts if text.strip()]

    # Answers and results

    def _answer(self, answer: Answer) -> None:
        calls = iter(answer.calls)
        # An answer of another format has no signatures; see NO_SIGNATURE.
        needs_signature = True
        for entry, pieces in answer.entries:
            is_own = entry.format == FORMAT_GEMINI
            if not is_own:
                self._steps.lost_extras(entry)
            parts: list[JSON] = []
            for piece in pieces:
                match piece:
                    case Thinking() if is_own and piece.source and piece.text.strip():
                        parts.append(self._own(entry, piece.source))
                    case Thinking():
                        self._lost(entry, ChangeKind.THINKING_OMITTED)
                    case Text() | Media() | Foreign():
                        parts += self._part(entry, piece)
                    case _:
                        part = self._call(next(calls))
                        if needs_signature and not is_own:
                            part["thoughtSignature"] = NO_SIGNATURE
                        needs_signature = False
                        parts.append(part)
            if not parts:
                self._lost(entry, ChangeKind.MESSAGE_OMITTED)
            elif is_own:
                for key in entry.value.keys() - {"role", "parts"}:
                    self._lost(entry, ChangeKind.FIELD_REMOVED, key)
            self._add(entry, "model", parts)

    def _call(self, paired: PairedCall) -> JSON:
        name = self._name(paired)
        own = paired.call.source if paired.entry.format == FORMAT_GEMINI else None
        if own:
            part = self._own(paired.entry, own)
            inner = part["functionCall"] | {"name": name}
            arguments = inner.get("args")
            if is_deeper(arguments, MAX_DEPTH):
                inner["args"] = {"arguments": paired.call.arguments}
                self._lost(paired.entry, ChangeKind.ARGUMENTS_WRAPPED, name)
            elif arguments is not None and not isinstance(arguments, dict):
                inner["args"] = {"arguments": arguments}
                self._lost(paired.entry, ChangeKind.ARGUMENTS_WRAPPED, name)
            if "id" in inner:
                inner["id"] = paired.wire_id
            return part | {"functionCall": inner}
        arguments, change = object_of(paired.call, max_depth=MAX_DEPTH)
        if change:
            self._lost(paired.entry, change, name)
        return {"functionCall": {"name": name, "args": arguments}}

    def _name(self, paired: PairedCall) -> str:
        name = paired.wire_name
        return name if _NAME_START.match(name) else f"_{name}"[:MAX_NAME]

    def _result(self, paired: PairedCall) -> tuple[Entry, list[JSON]] | None:
        """Add a result. Return its files, which follow the results of all calls."""
        entry, result = paired.result_entry, paired.result
        inner: JSON = {"name": self._name(paired)}
        call = self._call_part(paired)
        if "id" in call:
            inner = {"id": call["id"], **inner}
        if entry is None or result is None:
            inner["response"] = {"error": NO_RESULT}
            self._add(paired.entry, "user", [{"functionResponse": inner}])
            return None
        if entry.format == FORMAT_GEMINI and result.source:
            part = self._own(entry, result.source)
            own = part["functionResponse"]
            kept = {key: value for key, value in own.items() if key != "id"}
            new = in_order({**kept, **inner}, own)
            if is_deeper(new.get("response"), MAX_DEPTH):
                new["response"] = {"output": "".join(self._texts_of(entry, result))}
                self._lost(entry, ChangeKind.FIELD_CHANGED, "response")
            elif not isinstance(new.get("response"), dict):
                new["response"] = {"output": new.get("response")}
                self._lost(entry, ChangeKind.FIELD_CHANGED, "response")
            self._add(entry, "user", [part | {"functionResponse": new}])
            return None
        self._steps.lost_extras(entry)
        files = [piece for piece in result.pieces if isinstance(piece, Media)]
        texts = self._texts_of(entry, result)
        parts = [part for file in files for part in self._part(entry, file)]
        texts += [part["text"] for part in parts if "text" in part]
        moved = [part for part in parts if "text" not in part]
        if moved:
            self._lost(entry, ChangeKind.FILE_MOVED)
            texts.append("[its files follow]")
        key = "error" if result.is_error else "output"
        plain = all(type(text) is str for text in texts)
        inner["response"] = {key: "\n".join(texts) if plain else texts}
        self._add(entry, "user", [{"functionResponse": inner}])
        return (entry, moved) if moved else None

    def _texts_of(self, entry: Entry, result: Result) -> list[str]:
        return [self._text(entry, piece) for piece in result.pieces if not isinstance(piece, Media)]

    def _call_part(self, paired: PairedCall) -> JSON:
        own = paired.call.source if paired.entry.format == FORMAT_GEMINI else None
        inner = own.get("functionCall", own.get("function_call")) if own else None
        has_id = isinstance(inner, dict) and isinstance(inner.get("id"), str) and inner["id"]
        return {"id": paired.wire_id} if has_id else {}

    # Parts

    def _parts(self, entry: Entry, pieces: Sequence[Piece]) -> Iterator[JSON]:
        for piece in pieces:
            if isinstance(piece, Thinking):
                self._lost(entry, ChangeKind.THINKING_OMITTED)
            elif isinstance(piece, Text | Media | Foreign):
                yield from self._part(entry, piece)

    def _part(self, entry: Entry, piece: Content) -> Iterator[JSON]:
        own = piece.source if entry.format == FORMAT_GEMINI else None
        if isinstance(piece, Media) and (part := self._file(entry, piece, own)):
            yield part
            return
        if isinstance(piece, Foreign) and own:
            part = self._own(entry, own)
            if any(part.get(key) for key in ("executableCode", "codeExecutionResult")):
                yield part
                return
        text = self._text(entry, piece)
        if not text.strip():
            self._lost(entry, ChangeKind.BLANK_OMITTED)
        elif own and isinstance(piece, Text):
            yield self._own(entry, own)
        else:
            yield {"text": text}

    def _file(self, entry: Entry, piece: Media, own: JSON | None) -> JSON | None:
        if own and piece.uri:
            part = self._own(entry, own)
            return part if part.get("fileData") else None
        media_type = self._steps.media_type(piece) or _DEFAULT_TYPES.get(piece.kind, "")
        if media_type.startswith(("text/", "application/json")) and not own:
            return None
        data = self._steps.content_of(piece)
        if not (data and _MEDIA.fullmatch(media_type)):
            return None
        if own is None:
            return {"inlineData": {"mimeType": media_type, "data": data}}
        part = self._own(entry, own)
        kept = {key: value for key, value in part.items() if key not in ("inlineData", "fileData")}
        inner = part.get("inlineData") or {}
        new = in_order({"mimeType": media_type, "data": data}, inner)
        return in_order({"inlineData": new, **kept}, part)

    def _text(self, entry: Entry, piece: Content) -> str:
        if isinstance(piece, Text):
            return piece.text
        text = self._steps.as_text(entry, piece)
        return text.text if isinstance(text, Text) else text

    def _own(self, entry: Entry, part: JSON) -> JSON:
        """Return a stored part in the API's spelling, without keys that the API refuses."""
        new: JSON = {}
        for key, value in part.items():
            name = camel(key)
            if name not in _PART_KEYS:
                self._lost(entry, ChangeKind.FIELD_REMOVED, name)
            elif name in _INNER_KEYS and isinstance(value, dict):
                inner = {camel(k): v for k, v in value.items()}
                for k in inner.keys() - _INNER_KEYS[name]:
                    self._lost(entry, ChangeKind.FIELD_REMOVED, f"{name}.{k}")
                new[name] = {k: v for k, v in inner.items() if k in _INNER_KEYS[name]}
            else:
                new[name] = value
        return new


def _respelled(new: Any, stored: Any) -> Any:
    """Return a content with the stored content's spelling (mime_type or mimeType) and order."""
    if isinstance(new, list) and isinstance(stored, list) and len(new) == len(stored):
        return [_respelled(item, old) for item, old in zip(new, stored, strict=True)]
    if not (isinstance(new, dict) and isinstance(stored, dict)):
        return new
    names: dict[str, str] = {camel(key): key for key in stored}
    respelled: JSON = {
        spelled: item if key in ("args", "response") else _respelled(item, stored.get(spelled))
        for key, item in new.items()
        for spelled in (str(names.get(key, key)),)
    }
    return in_order(respelled, stored)


_DEFAULT_TYPES = {"image": "image/png", "audio": "audio/wav"}


def _options(options: Mapping[str, Any], system: list[JSON]) -> JSON:
    body = dict(options)
    own = body.pop("systemInstruction", body.pop("system_instruction", None))
    if isinstance(own, str) and own.strip():
        system.insert(0, {"text": own})
    elif isinstance(own, dict) and isinstance(own.get("parts"), list):
        system[:0] = own["parts"]
    if system:
        body["systemInstruction"] = {"parts": system}
    return body
