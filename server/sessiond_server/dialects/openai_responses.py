"""Writes requests of OpenAI's Responses API."""

from collections.abc import Iterator, Sequence
from typing import Any

from sessiond.v1.message_pb2 import FORMAT_OPENAI, ROLE_DEVELOPER
from sessiond_server.dialects.openai_items import LINKED, NEEDS_ID, PHASES, STATUSES
from sessiond_server.dialects.openai_responses_parts import (
    ITEM_ID,
    ResponsesParts,
    output_part,
)
from sessiond_server.dialects.options import with_options
from sessiond_server.dialects.request import (
    BLANK,
    CONTINUE,
    IMAGES,
    SYSTEM_ROLES,
    FittedRequest,
    History,
    in_order,
    is_native,
    is_openai_file,
    seqs_of,
)
from sessiond_server.formats.pairing import NO_RESULT, Answer, PairedCall, Results, Said, as_stored
from sessiond_server.formats.pieces import (
    JSON,
    Call,
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
from sessiond_server.formats.wire import join, stored_or_new


def fit(history: History) -> FittedRequest:
    """Create a request that the API accepts.

    Raises:
        UnsendableHistory: if nothing of the history can be sent.
    """
    return with_options(history, "responses", lambda converted: _Writer(converted).write(converted))


class _Writer(ResponsesParts):
    def __init__(self, history: History) -> None:
        super().__init__(history)
        self._seqs = {message.seq for message in history.messages}
        self._has_begun = False
        # By call, the results that are sent as items of a type of their own, such as
        # computer_call_output.
        self._outputs: dict[PairedCall, JSON] = {}

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
            or ("role" not in last and not str(last.get("type")).endswith(_OF_CALLERS))
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
        if stored and entry.is_nonmessage_item:
            # An item that the caller created, such as an approval.
            yield from self._item(entry, said.pieces, is_unlinked=False)
            return
        self._has_begun |= said.role not in SYSTEM_ROLES
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
        """Return a message of the request: the stored message if the new one equals it."""
        if not is_stored:
            return new
        if entry.value.get("type") != "message":
            return stored_or_new(in_order(new, entry.value), entry.value, entry.raw)
        new["type"] = "message"
        return self._steps.sent(entry, in_order(new, entry.value))

    def _lose_keys(self, entry: Entry, *also_kept: str) -> None:
        kept = {"role", "content", "type", "phase", *also_kept}
        if entry.is_item:
            for key in sorted(entry.value.keys() - kept):
                self._lost(entry, ChangeKind.FIELD_REMOVED, key)
            return
        for key in entry.extras:
            if key not in ("detail", "prompt_cache_breakpoint", *kept):
                self._lost(entry, ChangeKind.FIELD_REMOVED, key)

    # Answers

    def _answer(self, answer: Answer) -> Iterator[JSON]:
        calls = iter(answer.calls)
        # The API requires an item after reasoning, so `pending` holds reasoning until an item
        # follows. Items whose reasoning is not sent are sent without their ids.
        pending: tuple[Entry, JSON] | None = None
        has_lost_reasoning = self._begins_within(answer) or self._omits_signed
        for entry, pieces in answer.entries:
            if _is_reasoning(entry):
                if pending:
                    self._lost(pending[0], ChangeKind.THINKING_OMITTED)
                pending = self._reasoning(entry)
                has_lost_reasoning |= pending is None
                continue
            items = [*self._answer_items(entry, pieces, calls, is_unlinked=has_lost_reasoning)]
            if items and pending:
                yield self._steps.sent(*pending)
                pending = None
            for item in items:
                if has_lost_reasoning and "id" in item and item.get("type") in LINKED:
                    self._lost(entry, ChangeKind.FIELD_REMOVED, "id")
                    yield _without_id(item)
                else:
                    yield item
        if pending:
            self._lost(pending[0], ChangeKind.THINKING_OMITTED)

    def _begins_within(self, answer: Answer) -> bool:
        """Whether the history begins in the middle of this answer.

        If so, the answer's reasoning may be missing.
        """
        first = answer.entries[0][0]
        is_first = not self._has_begun
        self._has_begun = True
        return is_first and first.is_item and first.seq > 1 and first.seq - 1 not in self._seqs

    def _reasoning(self, entry: Entry) -> tuple[Entry, JSON] | None:
        """Return a reasoning item if the API can read it without having stored it."""
        item = None if self._omits_signed else self._known(entry)
        if not item:
            self._lost(entry, ChangeKind.THINKING_OMITTED)
            return None
        item["summary"] = _texts_of(item.get("summary"), "summary_text")
        if "content" in item:
            item["content"] = _texts_of(item["content"], "reasoning_text")
        return entry, in_order(item, entry.value)

    def _answer_items(
        self,
        entry: Entry,
        pieces: Sequence[Piece],
        calls: Iterator[PairedCall],
        *,
        is_unlinked: bool,
    ) -> Iterator[JSON]:
        if entry.is_nonmessage_item:
            if any(isinstance(piece, Call) for piece in pieces):
                yield self._call(next(calls), is_unlinked=is_unlinked)
            else:
                yield from self._item(entry, pieces, is_unlinked=is_unlinked)
            return
        texts: list[str] = []
        parts: list[JSON] = []
        for piece in pieces:
            if isinstance(piece, Thinking):
                self._lost(entry, ChangeKind.THINKING_OMITTED)
            elif isinstance(piece, Text | Media | Foreign):
                texts.append(self._steps.as_text(entry, piece))
                if isinstance(piece, Text):
                    parts.append(output_part(piece))
        if is_native(entry, pieces) and entry.format == FORMAT_OPENAI:
            yield from self._stored_answer(entry, texts, parts)
        else:
            self._steps.lost_extras(entry)
            if any(texts):
                yield {"role": "assistant", "content": _joined(texts)}
        for piece in pieces:
            if isinstance(piece, Call):
                yield self._call(next(calls), is_unlinked=False)

    def _stored_answer(
        self, entry: Entry, texts: Sequence[str], parts: list[JSON]
    ) -> Iterator[JSON]:
        """Write an answer that is stored as a message of Chat Completions or of this API."""
        value = entry.value
        new: JSON = {"role": "assistant"}
        if (phase := value.get("phase", "")) in (None, *PHASES):
            new["phase"] = phase
        is_output = value.get("type") == "message" and isinstance(value.get("content"), list)
        if is_output and len(parts) == len(value["content"]) and parts:
            new["content"] = parts
            if self._is_new_id(value):
                new["id"] = value["id"]
            if value.get("status") in STATUSES:
                new["status"] = value["status"]
            if "id" not in new or "status" not in new:
                # Without an id and a status, the message can only be sent as text.
                new["content"] = _joined(texts)
                new.pop("id", None)
                new.pop("status", None)
            yield self._message(entry, new, is_stored=True)
            return
        self._lose_keys(entry, "tool_calls", "function_call")
        if isinstance(value.get("content"), str) and texts == [value["content"]]:
            new["content"] = value["content"]
            yield self._message(entry, new, is_stored=True)
        elif any(texts):
            yield self._message(entry, {**new, "content": _joined(texts)}, is_stored=True)
        elif not value.get("tool_calls") and not value.get("function_call"):
            self._lost(entry, ChangeKind.MESSAGE_OMITTED)

    def _call(self, paired: PairedCall, *, is_unlinked: bool) -> JSON:
        call = paired.call
        kind = "custom_tool_call" if call.is_custom else "function_call"
        own = call.source if paired.entry.is_nonmessage_item else None
        if own and own.get("type") in ACTIONS:
            # The result of this call has a type of its own, like the call.
            item = self._known(paired.entry, call_id=paired.wire_id)
            is_sendable = not (is_unlinked and own["type"] in NEEDS_ID) and (
                own["type"] != "computer_call" or bool(item and item.keys() & {"action", "actions"})
            )
            if item and is_sendable and (output := self._own_output(paired)):
                self._outputs[paired] = output
                return self._steps.sent(paired.entry, in_order(item, own))
            self._lost(paired.entry, ChangeKind.ITEM_REPLACED, str(own["type"]))
            own = None
        new: JSON = {
            "type": kind,
            "call_id": paired.wire_id,
            "name": paired.wire_name,
            "input" if call.is_custom else "arguments": call.arguments,
        }
        if own:
            kept = self._known(paired.entry, call_id=paired.wire_id, name=paired.wire_name) or {}
            return self._steps.sent(paired.entry, in_order({**kept, **new}, own))
        return new

    # Results

    def _results(self, calls: Sequence[PairedCall]) -> Iterator[JSON]:
        for paired in as_stored(calls):
            entry, result = paired.result_entry, paired.result
            kind = "custom_tool_call_output" if paired.call.is_custom else "function_call_output"
            new: JSON = {"type": kind, "call_id": paired.wire_id}
            if entry is None or result is None:
                yield new | {"output": NO_RESULT}
            elif own := self._outputs.get(paired):
                yield self._steps.sent(entry, in_order(own, entry.value))
            else:
                yield self._result(entry, result, new)

    def _own_output(self, paired: PairedCall) -> JSON | None:
        """Return the result of an action if it is stored as an item of the action's result type."""
        source, entry = paired.call.source or {}, paired.result_entry
        kind = f"{source.get('type')}_output"
        if source.get("type") not in ACTIONS or entry is None or entry.value.get("type") != kind:
            return None
        if not entry.is_nonmessage_item:
            return None
        if kind == "local_shell_call_output":
            if not ITEM_ID.fullmatch(paired.wire_id):
                return None
            self._ids.add(paired.wire_id)
            return self._known(entry, id=paired.wire_id)
        item = self._known(entry, call_id=paired.wire_id)
        if item and kind == "computer_call_output":
            pieces = paired.result.pieces if paired.result else ()
            item["output"] = self._screenshot(pieces[0] if len(pieces) == 1 else None)
            return item if item["output"] else None
        return item

    def _screenshot(self, piece: Piece | None) -> JSON | None:
        if not (isinstance(piece, Media) and piece.kind == "image" and piece.source):
            return None
        media_type = self._steps.media_type(piece) or "image/png"
        url = self._image_url(piece) if media_type in IMAGES else ""
        file_id = piece.file_id if is_openai_file(piece.file_id) else ""
        if not (url or file_id):
            return None
        new = {"image_url": url} if url else {"file_id": file_id}
        return in_order({"type": "computer_screenshot", **new}, piece.source)

    def _result(self, entry: Entry, result: Result, new: JSON) -> JSON:
        own = entry.value if entry.is_nonmessage_item else None
        is_same = own is not None and own.get("type") == new["type"]
        output: Any = own.get("output") if own and is_same else None
        if not isinstance(output, str):
            is_list = isinstance(output, list)
            output = self._parts(entry, result.pieces)
            if result.is_error and not is_same:
                output.insert(0, {"type": "input_text", "text": "Error:"})
            is_plain = all(part.keys() == {"type", "text"} for part in output)
            if is_plain and not (is_list and output):
                output = join("\n", [part["text"] for part in output])
        if own and is_same:
            kept = self._known(entry, call_id=str(new["call_id"])) or {}
            return self._steps.sent(entry, in_order({**kept, **new, "output": output}, own))
        if own:
            self._lost(entry, ChangeKind.FIELD_CHANGED, "type")
        self._steps.lost_extras(entry)
        return new | {"output": output}


# Suffixes of the types of items that callers write.
_OF_CALLERS = ("_output", "_response")


def _joined(texts: Sequence[str]) -> str:
    return join("\n\n", [text for text in texts if text])


def _texts_of(parts: Any, kind: str) -> list[JSON]:
    """Return the texts of reasoning as parts of the type that the API requires."""
    return [
        {"type": kind, "text": part["text"]}
        for part in objects_of(parts)
        if isinstance(part.get("text"), str)
    ]


def _without_id(item: JSON) -> JSON:
    if item.get("type") != "message":
        return {key: value for key, value in item.items() if key != "id"}
    texts = [part.get("text") or part.get("refusal") or "" for part in item["content"]]
    return {"role": "assistant", "content": "\n\n".join(filter(None, texts))}


def _is_reasoning(entry: Entry) -> bool:
    return entry.is_nonmessage_item and entry.value.get("type") == "reasoning"
