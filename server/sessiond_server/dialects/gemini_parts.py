"""The parts of requests of the Gemini API, and the calls and results among them."""

import re
from collections.abc import Iterator
from typing import Any

from sessiond.v1.message_pb2 import FORMAT_GEMINI
from sessiond_server.dialects.arguments import object_of
from sessiond_server.dialects.differences import report_differences
from sessiond_server.dialects.request import History, Steps, in_order
from sessiond_server.dialects.shapes import (
    BOOLEAN,
    INTEGER,
    STRING,
    Misfit,
    Shape,
    anything,
    of_type,
    one_of,
    record,
)
from sessiond_server.formats.files import plain_base64
from sessiond_server.formats.pairing import PairedCall
from sessiond_server.formats.parsing import dumps, has_huge_number, is_deeper
from sessiond_server.formats.pieces import (
    JSON,
    Content,
    Entry,
    Foreign,
    Media,
    Result,
    Text,
    Thinking,
    string_of,
)
from sessiond_server.formats.read.gemini import camel, field, media_of
from sessiond_server.formats.report import ChangeKind
from sessiond_server.formats.wire import join

MAX_NAME = 128
# Maximum depth of the arguments and results of tools; the API refuses requests with more than 100
# levels in total.
MAX_DEPTH = 80
_PART_KEYS = frozenset(
    {"text", "thought", "thoughtSignature", "inlineData", "fileData", "functionCall"}
    | {"functionResponse", "executableCode", "codeExecutionResult", "toolCall", "toolResponse"}
    | {"videoMetadata", "mediaResolution", "partMetadata"}
)
_INNER_KEYS = {
    "inlineData": {"mimeType", "data", "displayName"},
    "fileData": {"mimeType", "fileUri", "displayName"},
    "functionCall": {"id", "name", "args"},
    "functionResponse": {"id", "name", "response", "parts", "willContinue", "scheduling"},
    "executableCode": {"language", "code", "id"},
    "codeExecutionResult": {"outcome", "output", "id"},
    "toolCall": {"id", "toolType", "args"},
    "toolResponse": {"id", "toolType", "response"},
}
_LEVELS = ("UNSPECIFIED", "LOW", "MEDIUM", "HIGH", "ULTRA_HIGH")
# The shapes that the API defines for optional values. Values that do not fit are left out.
_SHAPES: dict[str, Shape] = {
    "videoMetadata": record(
        "", {}, {"startOffset": STRING, "endOffset": STRING, "fps": of_type(int, float)}
    ),
    "mediaResolution": record(
        "",
        {},
        {
            "level": one_of(*(f"MEDIA_RESOLUTION_{level}" for level in _LEVELS)),
            "numTokens": INTEGER,
        },
    ),
    "functionResponse.willContinue": BOOLEAN,
    "functionResponse.scheduling": one_of(
        "SCHEDULING_UNSPECIFIED", "SILENT", "WHEN_IDLE", "INTERRUPT"
    ),
    "executableCode.language": one_of("LANGUAGE_UNSPECIFIED", "PYTHON"),
    "codeExecutionResult.outcome": one_of(
        "OUTCOME_UNSPECIFIED", "OUTCOME_OK", "OUTCOME_FAILED", "OUTCOME_DEADLINE_EXCEEDED"
    ),
}
# Parts of tools that the API runs itself. Only answers of the model may contain them.
_OF_MODELS = ("executableCode", "codeExecutionResult", "toolCall", "toolResponse")
_TYPES: dict[str, type] = {
    "text": str,
    "thought": bool,
    "videoMetadata": dict,
    "mediaResolution": dict,
    "partMetadata": dict,
}
_NAME_START = re.compile("[a-zA-Z_]")
_MEDIA = re.compile(r"image/(png|jpeg|webp|heic|heif)|audio/.+|video/.+|application/pdf|text/.+")
_URI = re.compile("(https://|gs://|files/).+")
_DEFAULT_TYPES = {"image": "image/png", "audio": "audio/wav"}


class GeminiParts:
    """Writes the parts of contents.

    Args:
        history: the input of the request.

    Raises:
        UnsendableHistory: if nothing of the history can be sent.
    """

    def __init__(self, history: History) -> None:
        self._steps = Steps(
            history,
            id_pattern=r"[\x21-\x7e]",
            id_length=64,
            ids_may_be_missing=True,
            name_pattern="[a-zA-Z0-9_.:-]",
            name_length=MAX_NAME,
        )
        self._lost = self._steps.lost
        self._omits_signed = history.omits_signed

    def _sent(self, entry: Entry, new: JSON, stored: JSON) -> JSON:
        """Report how a part differs from the stored one, and return it."""
        report_differences(self._steps.report, entry.seq, respelled(new, stored), stored)
        return new

    # Content

    def _part(self, entry: Entry, piece: Content, *, of_model: bool = False) -> Iterator[JSON]:
        own = piece.source if entry.format == FORMAT_GEMINI else None
        if isinstance(piece, Media) and (part := self._file(entry, piece, own)):
            yield self._sent(entry, part, own) if own else part
            return
        if isinstance(piece, Foreign) and own and of_model:
            part = self._own(own)
            if any(isinstance(part.get(key), dict) and part[key] for key in _OF_MODELS):
                yield self._sent(entry, part, own)
                return
        text = self._steps.as_text(entry, piece)
        if own and isinstance(piece, Text):
            part = self._own(own)
            # The last part of an answer may have a signature and no text.
            if text.strip() or (of_model and part.get("thoughtSignature")):
                yield self._sent(entry, part, own)
                return
        if text.strip():
            yield {"text": text}
        else:
            self._lost(entry, ChangeKind.BLANK_OMITTED)

    def _thought(self, entry: Entry, piece: Thinking) -> Iterator[JSON]:
        """Return a thought of the model if the API itself made it."""
        own = piece.source if entry.format == FORMAT_GEMINI else None
        part = self._own(own) if own else {}
        has_content = any(isinstance(part.get(key), str | dict) for key in ("text", *_OF_MODELS))
        is_blank = not (string_of(part.get("text")).strip() or part.get("thoughtSignature"))
        if own and has_content and not is_blank:
            yield self._sent(entry, part, own)
            return
        media = media_of(own) if own else None
        if own and media and (file := self._file(entry, media, own)):
            yield self._sent(entry, file, own)
            return
        self._lost(entry, ChangeKind.THINKING_OMITTED)

    def _file(self, entry: Entry, piece: Media, own: JSON | None) -> JSON | None:
        """Return a file as a part, or None if the API does not accept it."""
        media_type = self._steps.media_type(piece) or _DEFAULT_TYPES.get(piece.kind, "")
        part = self._own(own) if own else {}
        if own and piece.uri:
            inner = part.get("fileData")
            if not (inner and _URI.fullmatch(string_of(inner.get("fileUri")))):
                return None
            if piece.media_type and inner.get("mimeType"):
                part["fileData"] = inner | {"mimeType": piece.media_type}
            return part
        if media_type.startswith(("text/", "application/json")) and not own:
            return None
        data = self._steps.content_of(piece)
        if not (data and _MEDIA.fullmatch(media_type)):
            return None
        if own is None:
            self._steps.name_lost(entry, piece)
            return {"inlineData": {"mimeType": media_type, "data": data}}
        kept = {key: value for key, value in part.items() if key not in ("inlineData", "fileData")}
        inner = part.get("inlineData") or {}
        stored = inner.get("data")
        if piece.data and isinstance(stored, str):
            data = _base64(stored)
        names = {key: value for key, value in inner.items() if key == "displayName"}
        new = in_order({"mimeType": media_type, "data": data, **names}, inner)
        return in_order({"inlineData": new, **kept}, part)

    def _own(self, part: JSON) -> JSON:
        """Return a stored part in the API's spelling, without what the API refuses."""
        new: JSON = {}
        for key, value in part.items():
            name = camel(key)
            if name not in _PART_KEYS or name in new or is_deeper(value, MAX_DEPTH + 10):
                continue
            if name in _INNER_KEYS and isinstance(value, dict):
                inner = {camel(k): v for k, v in value.items()}
                new[name] = {
                    k: v
                    for k, v in inner.items()
                    if k in _INNER_KEYS[name] and (v is None or _fits(f"{name}.{k}", v))
                }
            elif name == "thoughtSignature" and isinstance(value, str):
                if (signature := _base64(value)) and not self._omits_signed:
                    new[name] = signature
            elif value is None or isinstance(value, _TYPES.get(name, ())):
                new[name] = value
                if isinstance(value, dict) and name in _SHAPES:
                    inner = {camel(k): v for k, v in value.items() if v is not None}
                    new[name] = _SHAPES[name](inner, name, _ignored)
        return new

    # Calls and results

    def _call(self, paired: PairedCall) -> JSON:
        entry, name = paired.entry, self._name(paired)
        own = paired.call.source if entry.format == FORMAT_GEMINI else None
        if not own:
            arguments, change = object_of(paired.call, max_depth=MAX_DEPTH)
            if change:
                self._lost(entry, change, name)
            return {"functionCall": {"name": name, "args": arguments}}
        part = self._own(own)
        inner = (part.get("functionCall") or {}) | {"name": name}
        arguments = field(_inner(own, "functionCall"), "args")
        is_odd = is_deeper(arguments, MAX_DEPTH) or has_huge_number(paired.call.arguments)
        if is_odd or not isinstance(arguments, dict | None):
            inner["args"] = {"arguments": paired.call.arguments if is_odd else arguments}
            self._lost(entry, ChangeKind.ARGUMENTS_WRAPPED, name)
        if call_id := self._call_id(paired):
            inner["id"] = call_id
        elif inner.get("id") is not None:
            del inner["id"]
        return self._sent(entry, in_order({**part, "functionCall": inner}, part), own)

    def _name(self, paired: PairedCall) -> str:
        name = paired.wire_name
        if _NAME_START.match(name):
            return name
        self._lost(paired.entry, ChangeKind.NAME_CHANGED, name)
        return f"_{name}"[:MAX_NAME]

    def _call_id(self, paired: PairedCall) -> str:
        """Return the id of a call and of its result; "" if the API gave it none."""
        own = paired.call.source if paired.entry.format == FORMAT_GEMINI else None
        return paired.wire_id if own and paired.call.call_id else ""

    def _own_result(self, entry: Entry, result: Result, given: JSON) -> JSON:
        """Return a result in the API's own format.

        Args:
            entry: the message that contains the result.
            result: the result, with its source.
            given: the name and the id of its call.
        """
        stored = result.source or {}
        part = self._own(stored)
        own = _inner(stored, "functionResponse")
        kept = part.get("functionResponse") or {}
        if kept.get("id") is not None:
            del kept["id"]
        new = in_order({**kept, **given}, {camel(key): value for key, value in own.items()})
        response = field(own, "response")
        text = dumps(response)
        is_odd = is_deeper(response, MAX_DEPTH) or has_huge_number(text)
        if is_odd or not isinstance(response, dict):
            new["response"] = {"output": text if is_odd else response}
        if isinstance(kept.get("parts"), list):
            files: list[JSON] = []
            notes: list[str] = []
            for piece in result.pieces:
                if piece.source is None:
                    continue  # the response itself
                file = self._file(entry, piece, piece.source) if isinstance(piece, Media) else None
                if file:
                    files.append({k: v for k, v in file.items() if k in ("inlineData", "fileData")})
                else:
                    notes.append(self._steps.as_text(entry, piece))
            new["parts"] = files
            if notes:
                new["response"] = {**new["response"], "not_sent": join("\n", notes)}
        elif kept.get("parts") is not None:
            del new["parts"]
        return self._sent(entry, in_order({**part, "functionResponse": new}, part), stored)


def _base64(stored: str) -> str:
    """Return base64 as it is stored, or in its plain form if the API cannot read the stored form.

    The API reads the standard alphabet and the URL-safe one. "" = the text is not base64.
    """
    plain = plain_base64(stored)
    return stored if stored.replace("-", "+").replace("_", "/") == plain else plain


def _fits(path: str, value: Any) -> bool:
    """Whether a value has the shape that the API defines for it. True if the API defines none."""
    try:
        _SHAPES.get(path, anything)(value, path, _ignored)
    except Misfit:
        return False
    return True


def _ignored(path: str) -> None:
    """Ignore a part that does not fit: the comparison with the stored part reports it."""


def _inner(part: JSON, key: str) -> JSON:
    inner = field(part, key)
    return inner if isinstance(inner, dict) else {}


def respelled(new: Any, stored: Any) -> Any:
    """Return a content with the stored content's spelling (mime_type or mimeType) and order."""
    if isinstance(new, list) and isinstance(stored, list) and len(new) == len(stored):
        return [respelled(item, old) for item, old in zip(new, stored, strict=True)]
    if not (isinstance(new, dict) and isinstance(stored, dict)):
        return new
    names: dict[str, str] = {camel(key): key for key in stored}
    spelled: JSON = {
        name: item if key in ("args", "response") else respelled(item, stored.get(name))
        for key, item in new.items()
        for name in (str(names.get(key, key)),)
    }
    return in_order(spelled, stored)
