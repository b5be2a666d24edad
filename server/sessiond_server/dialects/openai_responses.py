"""Writes requests of OpenAI's Responses API."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from sessiond.v1.message_pb2 import FORMAT_OPENAI, ROLE_ASSISTANT, ROLE_DEVELOPER
from sessiond_server.dialects.openai_items import (
    ID_PREFIXES,
    ITEM_KEYS,
    NULLABLE_KEYS,
    REQUIRED_KEYS,
)
from sessiond_server.dialects.request import (
    BLANK,
    CONTINUE,
    IMAGES,
    SYSTEM_ROLES,
    FittedRequest,
    History,
    Steps,
    in_order,
    is_native,
    is_web,
    seqs_of,
)
from sessiond_server.formats.pairing import NO_RESULT, Answer, PairedCall, Results, Said, as_stored
from sessiond_server.formats.pieces import (
    JSON,
    Call,
    Content,
    Entry,
    Foreign,
    Media,
    Piece,
    Result,
    Text,
    Thinking,
    objects_of,
)
from sessiond_server.formats.read.openai import ACTIONS
from sessiond_server.formats.report import ChangeKind
from sessiond_server.formats.wire import stored_or_new


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
            name_pattern="[a-zA-Z0-9_-]",
            name_length=64,
            reads_summaries=True,
        )
        self._lost = self._steps.lost
        self._ids: set[str] = set()

    def write(self, history: History) -> FittedRequest:
        items: list[JSON] = []
        seqs: list[tuple[int, ...]] = []
        for step in self._steps.steps:
            match step:
                case Said():
                    items += self._said(step)
                    seqs += [seqs_of([step.entry])] * (len(items) - len(seqs))
                case Answer():
                    items += self._answer(step)
                    entries = [entry for entry, _ in step.entries]
                    seqs += [seqs_of(entries)] * (len(items) - len(seqs))
                case Results():
                    items += self._results(step.calls)
                    seqs += [seqs_of([p.result_entry or p.entry]) for p in as_stored(step.calls)]
        last = items[-1] if items else {}
        if (
            not items
            or last.get("role") == "assistant"
            or ("role" not in last and not str(last.get("type")).endswith("_output"))
        ):
            items.append({"role": "user", "content": CONTINUE})
            self._steps.report.add(0, ChangeKind.MESSAGE_ADDED, CONTINUE)
        body = {**history.options, "input": items}
        own = history.options.get("instructions")
        prompts = [own if isinstance(own, str) else "", history.system_prompt]
        if any(prompts):
            body["instructions"] = "\n\n".join(filter(None, prompts))
        return FittedRequest(body, self._steps.report, [*seqs, ()][: len(items)])

    # Messages of users and of the system

    def _said(self, said: Said) -> Iterator[JSON]:
        entry = said.entry
        role = "user"
        if said.role in SYSTEM_ROLES:
            role = "developer" if said.role == ROLE_DEVELOPER else "system"
        stored = is_native(entry, said.pieces) and entry.format == FORMAT_OPENAI
        if stored and entry.value.get("role") is None:
            # An item that the caller created, such as an approval.
            yield from self._item(entry, said.pieces)
            return
        parts = self._parts(entry, said.pieces, is_text_only=said.role in SYSTEM_ROLES)
        if stored:
            self._lose_keys(entry)
        else:
            self._steps.lost_extras(entry)
        content: Any = parts
        if stored and isinstance(entry.value.get("content"), str):
            content = entry.value["content"]
        elif len(parts) == 1 and not stored and parts[0].keys() == {"type", "text"}:
            content = parts[0]["text"]
        if not content and not (stored and content == ""):
            if said.role in SYSTEM_ROLES:
                self._lost(entry, ChangeKind.BLANK_OMITTED)
                return
            self._lost(entry, ChangeKind.BLANK_REPLACED)
            content = BLANK
        yield self._message(entry, {"role": role, "content": content}, is_stored=stored)

    def _message(self, entry: Entry, new: JSON, *, is_stored: bool) -> JSON:
        """Return a message, in its stored form if the new one equals it."""
        if not is_stored:
            return new
        if entry.value.get("type") == "message":
            new["type"] = "message"
        return stored_or_new(in_order(new, entry.value), entry.value, entry.raw)

    def _lose_keys(self, entry: Entry, *also_kept: str) -> None:
        for key in entry.value.keys() - {"role", "content", "type", *also_kept}:
            self._lost(entry, ChangeKind.FIELD_REMOVED, key)

    def _parts(
        self, entry: Entry, pieces: Sequence[Piece], *, is_text_only: bool = False
    ) -> list[JSON]:
        """Return pieces as the content of a message that is not an answer of the model."""
        parts: list[JSON] = []
        for piece in pieces:
            if isinstance(piece, Thinking):
                self._lost(entry, ChangeKind.THINKING_OMITTED)
            elif isinstance(piece, Text | Media | Foreign):
                part = self._part(entry, piece, is_text_only=is_text_only)
                if part.get("text") != "" or entry.is_item:
                    parts.append(part)
        return parts

    def _part(self, entry: Entry, piece: Content, *, is_text_only: bool = False) -> JSON:
        own = piece.source if entry.format == FORMAT_OPENAI else None
        new: JSON | None = None
        if isinstance(piece, Media) and not is_text_only:
            new = self._file(entry, piece, own)
        if new is None:
            new = {"type": "input_text", "text": self._text(entry, piece)}
        return in_order(new, own) if own and own.get("type") == new["type"] else new

    def _file(self, entry: Entry, piece: Media, own: JSON | None) -> JSON | None:
        media_type = self._steps.media_type(piece)
        if piece.kind == "image" and (media_type or "image/png") in IMAGES:
            url = self._steps.content_of(piece, prefix=f"data:{media_type or 'image/png'};base64,")
            url = url or (piece.uri if is_web(piece.uri) else "")
            source: JSON = {"image_url": url} if url else {"file_id": piece.file_id if own else ""}
            detail = own.get("detail") if own else None
            inner = own.get("image_url") if own else None
            detail = detail or (inner.get("detail") if isinstance(inner, dict) else None)
            if detail not in ("low", "high", "auto", "original"):
                if own and own.get("type") == "input_image":
                    self._lost(entry, ChangeKind.FIELD_CHANGED, "detail")
                detail = "auto"
            if any(source.values()):
                return {"type": "input_image", "detail": detail, **source}
        if media_type == "application/pdf" or (own and piece.kind == "file"):
            prefix = f"data:{media_type or 'application/pdf'};base64,"
            if data := self._steps.content_of(piece, prefix=prefix):
                name = piece.name or "file.pdf"
                return {"type": "input_file", "filename": name, "file_data": data}
            if is_web(piece.uri):
                return {"type": "input_file", "file_url": piece.uri}
            if own and piece.file_id:
                return {"type": "input_file", "file_id": piece.file_id}
        return None

    def _text(self, entry: Entry, piece: Content) -> str:
        if isinstance(piece, Text):
            return piece.text
        text = self._steps.as_text(entry, piece)
        return text.text if isinstance(text, Text) else text

    # Answers

    def _answer(self, answer: Answer) -> Iterator[JSON]:
        calls = iter(answer.calls)
        # The API requires an item after reasoning. Without the reasoning, these items lose their
        # ids.
        pending: tuple[Entry, JSON] | None = None
        has_lost_reasoning = False
        for entry, pieces in answer.entries:
            if _is_reasoning(entry):
                if pending:
                    self._lost(pending[0], ChangeKind.THINKING_OMITTED)
                pending = self._reasoning(entry)
                has_lost_reasoning |= pending is None
                continue
            items = [*self._answer_items(entry, pieces, calls)]
            if items and pending:
                reasoning = pending[1]
                yield stored_or_new(reasoning, pending[0].value, pending[0].raw)
                pending = None
            for item in items:
                if has_lost_reasoning and "id" in item and item.get("type") in _LINKED:
                    self._lost(entry, ChangeKind.FIELD_REMOVED, "id")
                    yield _without_id(item)
                else:
                    yield item
        if pending:
            self._lost(pending[0], ChangeKind.THINKING_OMITTED)

    def _reasoning(self, entry: Entry) -> tuple[Entry, JSON] | None:
        """Return a reasoning item if the API can read it without having stored it."""
        item = self._known(entry)
        summary = item.get("summary")
        encrypted = item.get("encrypted_content")
        if not ("id" in item and isinstance(encrypted, str) and encrypted):
            self._lost(entry, ChangeKind.THINKING_OMITTED)
            return None
        if not isinstance(summary, list):
            item["summary"] = []
        return entry, item

    def _answer_items(
        self, entry: Entry, pieces: Sequence[Piece], calls: Iterator[PairedCall]
    ) -> Iterator[JSON]:
        if entry.format == FORMAT_OPENAI and entry.value.get("role") is None:
            if any(isinstance(piece, Call) for piece in pieces):
                yield self._call(next(calls))
            else:
                yield from self._item(entry, pieces)
            return
        texts: list[str] = []
        parts: list[JSON] = []
        for piece in pieces:
            if isinstance(piece, Thinking):
                self._lost(entry, ChangeKind.THINKING_OMITTED)
            elif isinstance(piece, Text | Media | Foreign):
                texts.append(self._text(entry, piece))
                if isinstance(piece, Text):
                    parts.append(_output_part(piece))
        if is_native(entry, pieces) and entry.format == FORMAT_OPENAI:
            yield from self._stored_answer(entry, texts, parts)
        else:
            self._steps.lost_extras(entry)
            if any(texts):
                yield {"role": "assistant", "content": "\n\n".join(filter(None, texts))}
        for piece in pieces:
            if isinstance(piece, Call):
                yield self._call(next(calls))

    def _stored_answer(
        self, entry: Entry, texts: Sequence[str], parts: list[JSON]
    ) -> Iterator[JSON]:
        """Write a message of either API."""
        value = entry.value
        new: JSON = {"role": "assistant"}
        is_output = value.get("type") == "message" and isinstance(value.get("content"), list)
        if is_output and len(parts) == len(value["content"]) and parts:
            new["content"] = parts
            if self._is_new_id(value):
                new["id"] = value["id"]
            for key in ("status", "phase"):
                if isinstance(value.get(key), str) and value[key]:
                    new[key] = value[key]
            if "id" not in new or "status" not in new:
                # Without an id and a status, the message can only be sent as text.
                new["content"] = "\n\n".join(filter(None, texts))
                new.pop("id", None)
                new.pop("status", None)
            self._lose_keys(entry, *new, "tool_calls", "function_call")
            yield self._message(entry, new, is_stored=True)
            return
        self._lose_keys(entry, "tool_calls", "function_call")
        if isinstance(value.get("content"), str) and texts == [value["content"]]:
            new["content"] = value["content"]
            yield self._message(entry, new, is_stored=True)
        elif any(texts):
            yield {"role": "assistant", "content": "\n\n".join(filter(None, texts))}
        elif not value.get("tool_calls") and not value.get("function_call"):
            self._lost(entry, ChangeKind.MESSAGE_OMITTED)

    def _call(self, paired: PairedCall) -> JSON:
        call = paired.call
        kind = "custom_tool_call" if call.is_custom else "function_call"
        own = call.source if call.source and call.source.get("type") in _CALLS else None
        if own and own["type"] in ACTIONS:
            # The call's result has a type of its own too.
            if _has_own_output(paired):
                item = self._known(paired.entry) | {"call_id": paired.wire_id}
                return stored_or_new(in_order(item, own), paired.entry.value, paired.entry.raw)
            self._lost(paired.entry, ChangeKind.ITEM_REPLACED, own["type"])
            own = None
        new: JSON = {
            "type": kind,
            "call_id": paired.wire_id,
            "name": paired.wire_name,
            "input" if call.is_custom else "arguments": call.arguments,
        }
        if own:
            new = in_order({**self._known(paired.entry), **new}, own)
            return stored_or_new(new, paired.entry.value, paired.entry.raw)
        return new

    # Results

    def _results(self, calls: Sequence[PairedCall]) -> Iterator[JSON]:
        for paired in as_stored(calls):
            entry, result = paired.result_entry, paired.result
            kind = "custom_tool_call_output" if paired.call.is_custom else "function_call_output"
            new: JSON = {"type": kind, "call_id": paired.wire_id}
            if entry is None or result is None:
                yield new | {"output": NO_RESULT}
            elif _has_own_output(paired):
                item = self._known(entry)
                if "call_id" in item:
                    item["call_id"] = paired.wire_id
                yield stored_or_new(in_order(item, entry.value), entry.value, entry.raw)
            else:
                yield self._result(entry, result, new)

    def _result(self, entry: Entry, result: Result, new: JSON) -> JSON:
        own = (
            entry.value
            if result.source is entry.value and entry.value.get("role") is None
            else None
        )
        output: Any = own.get("output") if own else None
        if not isinstance(output, str):
            output = self._parts(entry, result.pieces)
            if result.is_error:
                output.insert(0, {"type": "input_text", "text": "Error:"})
            is_plain = all(type(part.get("text")) is str for part in output)
            if is_plain and own and not output:
                self._lost(entry, ChangeKind.FIELD_CHANGED, "output")
            if is_plain and not (own and isinstance(own.get("output"), list) and output):
                output = "\n".join(part["text"] for part in output)
        if own and own.get("type") == new["type"]:
            new = in_order({**self._known(entry), **new, "output": output}, own)
            return stored_or_new(new, own, entry.raw)
        if own:
            self._lost(entry, ChangeKind.FIELD_CHANGED, "type")
        self._steps.lost_extras(entry)
        return new | {"output": output}

    # Items

    def _item(self, entry: Entry, pieces: Sequence[Piece]) -> Iterator[JSON]:
        """Write an item that is not a message, a call, a result or reasoning."""
        kind = str(entry.value.get("type"))
        required = REQUIRED_KEYS.get(kind)
        item = self._known(entry) if required else {}
        for piece in pieces:
            if isinstance(piece, Media) and piece.asset_id and "result" in item:
                item["result"] = self._steps.content_of(piece) or None
        if required and all(
            item.get(key) is not None or (key in NULLABLE_KEYS and key in item) for key in required
        ):
            yield stored_or_new(item, entry.value, entry.raw)
            return
        texts = [
            self._text(entry, piece)
            for piece in pieces
            if isinstance(piece, Text | Media | Foreign)
        ]
        role = "assistant" if entry.role == ROLE_ASSISTANT else "user"
        if any(texts):
            yield {"role": role, "content": "\n\n".join(filter(None, texts))}

    def _is_new_id(self, item: JSON) -> bool:
        """Whether an item may keep its id: the API accepts only its own ids, and each only once."""
        item_id = item.get("id")
        prefix = ID_PREFIXES.get(str(item.get("type")), "")
        if not isinstance(item_id, str) or item_id in self._ids:
            return False
        if not (_ID.fullmatch(item_id) and item_id.startswith(prefix)):
            return False
        self._ids.add(item_id)
        return True

    def _known(self, entry: Entry) -> JSON:
        """Return a stored item without null values and keys that the API refuses."""
        item = entry.value
        known = ITEM_KEYS.get(str(item.get("type")), set())
        if not self._is_new_id(item):
            known = known - {"id"}
        kept: JSON = {}
        for key, value in item.items():
            if key == "type" or (key in known and (value is not None or key in NULLABLE_KEYS)):
                kept[key] = value
            elif key not in ("type",):
                self._lost(entry, ChangeKind.FIELD_REMOVED, key)
        return kept


_ID = re.compile("[a-zA-Z0-9_-]{1,64}")
_CALLS = {"function_call", "custom_tool_call", *ACTIONS}
# Types of items whose ids the API ties to the reasoning that precedes them.
_LINKED = {"message", *_CALLS}


def _without_id(item: JSON) -> JSON:
    if item.get("type") != "message":
        return {key: value for key, value in item.items() if key != "id"}
    texts = [part.get("text") or part.get("refusal") or "" for part in item["content"]]
    return {"role": "assistant", "content": "\n\n".join(filter(None, texts))}


def _is_reasoning(entry: Entry) -> bool:
    return entry.format == FORMAT_OPENAI and entry.value.get("type") == "reasoning"


def _has_own_output(paired: PairedCall) -> bool:
    """Whether an action specific to the API has a result of the matching type."""
    source = paired.call.source
    kind = str(source.get("type")) if source else ""
    result = paired.result
    return (
        kind in ACTIONS
        and result is not None
        and result.source is not None
        and result.source.get("type") == f"{kind}_output"
    )


def _output_part(piece: Text) -> JSON:
    own = piece.source or {}
    if own.get("type") == "refusal":
        return {"type": "refusal", "refusal": piece.text}
    new: JSON = {"type": "output_text", "text": piece.text}
    new["annotations"] = objects_of(own.get("annotations"))
    if isinstance(own.get("logprobs"), list):
        new["logprobs"] = own["logprobs"]
    return in_order(new, own)
