"""Writes requests of OpenAI's Chat Completions API and of servers with the same protocol."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from sessiond.v1.message_pb2 import FORMAT_OPENAI, ROLE_DEVELOPER
from sessiond_server.dialects.message_limit import Sent, limited
from sessiond_server.dialects.openai_chat_parts import ChatDialect, ChatParts
from sessiond_server.dialects.options import with_options
from sessiond_server.dialects.request import (
    BLANK,
    CONTINUE,
    SYSTEM_ROLES,
    FittedRequest,
    History,
    in_order,
    is_native,
    seqs_of,
)
from sessiond_server.formats.pairing import NO_RESULT, Answer, PairedCall, Results, Said, as_stored
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
    objects_of,
)
from sessiond_server.formats.read.openai import REASONING_KEYS
from sessiond_server.formats.read.openai import content as content_of
from sessiond_server.formats.report import ChangeKind
from sessiond_server.formats.wire import join

MAX_CALLS = 128
MAX_MESSAGES = 2048
NO_REASONING = "(The reasoning is not available.)"
_AUTHOR = re.compile(r"[^\s<|\\/>]{1,64}")
_ARGUMENT_KEYS = {"function": "arguments", "custom": "input"}


OPENAI = ChatDialect()


def fit(history: History, dialect: ChatDialect = OPENAI) -> FittedRequest:
    """Create a request that the API accepts.

    Raises:
        UnsendableHistory: if nothing of the history can be sent.
    """
    return with_options(
        history,
        "chat",
        lambda converted: _Writer(converted, dialect).write(converted),
        is_compatible=not dialect.is_openai,
    )


class _Writer(ChatParts):
    def write(self, history: History) -> FittedRequest:
        system = history.system_prompt
        first = [{"role": "system", "content": system}] if system else []
        groups: list[list[Sent]] = [[(message, ()) for message in first]]
        for step in self._steps.steps:
            match step:
                case Said():
                    seqs = seqs_of([step.entry])
                    groups.append([(message, seqs) for message in self._said(step)])
                case Answer():
                    groups.append([*self._answer(step)])
                case Results():
                    pass
        # A message may be added at the end.
        sent = limited(groups, MAX_MESSAGES - 1, self._steps.report, is_instruction=_is_instruction)
        if not sent or sent[-1][0].get("role") == "assistant":
            sent.append(({"role": "user", "content": CONTINUE}, ()))
            self._steps.report.add(0, ChangeKind.MESSAGE_ADDED, CONTINUE)
        body = {**history.options, "messages": [message for message, _ in sent]}
        return FittedRequest(body, self._steps.report, [seqs for _, seqs in sent])

    # Messages of users and of the system

    def _said(self, said: Said) -> Iterator[JSON]:
        entry = said.entry
        is_instruction = said.role in SYSTEM_ROLES
        stored = is_native(entry, said.pieces) and _is_chat(entry)
        role = "user"
        if is_instruction:
            is_developer = said.role == ROLE_DEVELOPER and self._dialect.is_openai
            role = "developer" if is_developer else "system"
            if said.role == ROLE_DEVELOPER and not is_developer:
                self._lost(entry, ChangeKind.ROLE_CHANGED, "developer")
        if stored:
            new: JSON = {}
            for key, value in entry.value.items():
                if key == "role":
                    new[key] = role
                elif key == "content":
                    new[key] = self._native_content(entry, value, is_instruction=is_instruction)
                elif key == "name" and isinstance(value, str) and _AUTHOR.fullmatch(value):
                    new[key] = value
                else:
                    self._unknown(entry, new, key, value)
        else:
            self._steps.lost_extras(entry)
            content = self._content(entry, said.pieces, is_instruction=is_instruction)
            new = {"role": role, "content": content}
        if not new.get("content") and (new.get("content") != "" or not stored):
            if is_instruction:
                self._lost(entry, ChangeKind.BLANK_OMITTED)
                return
            self._lost(entry, ChangeKind.BLANK_REPLACED)
            new["content"] = BLANK
        yield self._steps.sent(entry, new) if stored else new

    def _native_content(self, entry: Entry, value: Any, *, is_instruction: bool) -> Any:
        """Return the content of a stored message; parts are unchanged if the API accepts them."""
        if isinstance(value, str):
            return value
        return self._content(entry, entry.pieces, is_instruction=is_instruction, keep_list=True)

    # Answers

    def _answer(self, answer: Answer) -> Iterator[Sent]:
        seqs = seqs_of(entry for entry, _ in answer.entries)
        entry, pieces = answer.entries[0]
        is_one = len(answer.entries) == 1
        if is_one and is_native(entry, pieces) and _is_chat(entry):
            new = self._native_answer(entry, answer.calls)
            new = self._steps.sent(entry, new)
        else:
            if not is_one:
                for merged, _ in answer.entries:
                    self._lost(merged, ChangeKind.MESSAGES_MERGED)
            new = self._new_answer(answer)
        calls = new.get("tool_calls") or []
        if not (calls or new.get("content") is not None or new.get("refusal") or "audio" in new):
            for omitted, _ in answer.entries:
                self._lost(omitted, ChangeKind.MESSAGE_OMITTED)
            return
        # The API accepts at most MAX_CALLS calls in one message.
        for start in range(0, len(calls), MAX_CALLS) or (0,):
            if len(calls) > MAX_CALLS:
                part = {**new, "tool_calls": calls[start : start + MAX_CALLS]}
                yield (part if start == 0 else {**part, "content": None}), seqs
            else:
                yield new, seqs
            yield from self._results(answer.calls[start : start + MAX_CALLS])

    def _native_answer(self, entry: Entry, calls: Sequence[PairedCall]) -> JSON:
        new: JSON = {}
        for key, value in entry.value.items():
            match key:
                case "role":
                    new[key] = "assistant"
                case "content":
                    new[key] = self._answer_content(entry, value)
                case "refusal" if self._dialect.is_openai:
                    new[key] = value
                case "annotations" if self._dialect.is_openai and isinstance(value, list):
                    new[key] = value
                case "name" if isinstance(value, str) and _AUTHOR.fullmatch(value):
                    new[key] = value
                case "tool_calls" if calls:
                    new[key] = [self._call(paired) for paired in calls]
                case "function_call" if calls and not entry.value.get("tool_calls"):
                    new["tool_calls"] = [self._call(paired) for paired in calls]
                    self._lost(entry, ChangeKind.FIELD_CHANGED, key)
                case "tool_calls" | "function_call":
                    self._lost(entry, ChangeKind.FIELD_REMOVED, key)
                case "audio" if self._dialect.is_openai and _is_known_audio(value):
                    new[key] = value
                case "audio" | "images" | "refusal":
                    # The text of these fields is added below.
                    kind = ChangeKind.FIELD_CHANGED if value else ChangeKind.FIELD_REMOVED
                    self._lost(entry, kind, key)
                case _ if key in REASONING_KEYS and key != self._dialect.reasoning_key:
                    if value and self._dialect.keep_unknown_keys:
                        new[key] = value
                    else:
                        self._lost(entry, ChangeKind.THINKING_OMITTED, key)
                case _ if key == self._dialect.reasoning_key and isinstance(value, str):
                    new[key] = value
                case _:
                    self._unknown(entry, new, key, value)
        if texts := [*self._beside_content(entry, new)]:
            content = new.get("content")
            before = [content] if isinstance(content, str) and content else []
            before += [str(part.get("text") or part.get("refusal")) for part in objects_of(content)]
            new["content"] = join("\n\n", [*before, *texts])
        self._add_reasoning(new, entry.pieces)
        if "content" not in new:
            new["content"] = None
        return new

    def _beside_content(self, entry: Entry, new: JSON) -> Iterator[str]:
        """Yield a refusal, images and audio as texts, if the new message has no field for them."""
        value = entry.value
        if isinstance(value.get("refusal"), str) and value["refusal"] and not new.get("refusal"):
            yield value["refusal"]
        images = objects_of(value.get("images"))
        for piece in entry.pieces:
            is_audio = isinstance(piece, Foreign) and piece.source is value.get("audio")
            is_image = isinstance(piece, Media) and piece.source in images
            if isinstance(piece, Foreign | Media) and (
                is_image or (is_audio and "audio" not in new)
            ):
                yield self._text_part(entry, piece)["text"]

    def _answer_content(self, entry: Entry, value: Any) -> Any:
        """Return the content of a stored answer, which may contain only text and refusals."""
        if isinstance(value, str) or not value:
            return value if isinstance(value, str) else None
        parts: list[JSON] = []
        for piece in content_of(value):
            if not (isinstance(piece, Foreign) and piece.kind == "thinking"):
                parts.append(self._answer_part(entry, piece))
            elif self._dialect.keep_unknown_keys and piece.source:
                parts.append(piece.source)
            elif not self._dialect.reasoning_key:
                self._lost(entry, ChangeKind.THINKING_OMITTED)
        if self._dialect.is_openai or any("thinking" in part for part in parts):
            return parts or None
        texts = [part["text"] for part in parts if part["text"]]
        return join("\n\n", texts) if texts or not parts else ""

    def _answer_part(self, entry: Entry, piece: Content) -> JSON:
        own = piece.source
        if isinstance(piece, Text) and own and own.get("type") == "refusal":
            kind = "refusal" if self._dialect.is_openai else "text"
            return {"type": kind, kind: piece.text}
        return self._text_part(entry, piece)

    def _new_answer(self, answer: Answer) -> JSON:
        parts: list[JSON] = []
        thinking: list[Piece] = []
        for entry, pieces in answer.entries:
            self._steps.lost_extras(entry)
            own = [piece for piece in pieces if isinstance(piece, Thinking)]
            if own and not (self._dialect.reasoning_key and all(piece.text for piece in own)):
                self._lost(entry, ChangeKind.THINKING_OMITTED)
            thinking += own
            parts += [
                self._text_part(entry, piece)
                for piece in pieces
                if isinstance(piece, Text | Media | Foreign)
            ]
        parts = [{"type": "text", "text": part["text"]} for part in parts if part["text"]]
        content: Any = parts or None
        if len(parts) == 1:
            content = parts[0]["text"]
        elif parts and not self._dialect.is_openai:
            content = join("\n\n", [part["text"] for part in parts])
        new: JSON = {"role": "assistant", "content": content}
        if answer.calls:
            new["tool_calls"] = [self._call(paired) for paired in answer.calls]
        self._add_reasoning(new, thinking)
        return new

    def _add_reasoning(self, new: JSON, pieces: Sequence[Piece]) -> None:
        """Add the reasoning under the server's key. A message with calls must have this key."""
        key = self._dialect.reasoning_key
        if not key or new.get(key):
            return
        texts = [piece.text for piece in pieces if isinstance(piece, Thinking) and piece.text]
        if texts or new.get("tool_calls"):
            new[key] = "\n\n".join(texts) or NO_REASONING

    def _call(self, paired: PairedCall) -> JSON:
        """Return a call with the stored keys that the API accepts, in their stored order."""
        call = paired.call
        kind = "custom" if call.is_custom else "function"
        inner: JSON = {"name": paired.wire_name, _ARGUMENT_KEYS[kind]: call.arguments}
        new: JSON = {"id": paired.wire_id, "type": kind, kind: inner}
        source = call.source if call.source and kind in call.source else None
        if source is None or not isinstance(source[kind], dict):
            return new
        inner = in_order(inner, source[kind])
        extra = source.keys() - new.keys()
        if self._dialect.keep_unknown_keys:
            new |= {key: source[key] for key in extra if source[key] is not None}
        else:
            for key in sorted(extra):
                self._lost(paired.entry, ChangeKind.FIELD_REMOVED, f"tool_calls.{key}")
        return in_order({**new, kind: inner}, source)

    # Results

    def _results(self, calls: Sequence[PairedCall]) -> Iterator[Sent]:
        files: list[Sent] = []
        for paired in as_stored(calls):
            entry, result = paired.result_entry, paired.result
            new: JSON | None
            if entry is None or result is None:
                new = {"role": "tool", "tool_call_id": paired.wire_id, "content": NO_RESULT}
                yield new, seqs_of([paired.entry])
                continue
            seqs = seqs_of([entry])
            if entry.value is result.source and not entry.is_nonmessage_item:
                is_tool = entry.value["role"] == "tool"
                new = self._native_result(entry, paired, result) if is_tool else None
                if new is not None:
                    yield self._steps.sent(entry, new), seqs
                    continue
                self._lost(entry, ChangeKind.FIELD_CHANGED, "content" if is_tool else "role")
            self._steps.lost_extras(entry)
            moved = [piece for piece in result.pieces if self._is_sendable_file(piece)]
            pieces = [piece for piece in result.pieces if not self._is_sendable_file(piece)]
            texts = [self._text_part(entry, piece)["text"] for piece in pieces]
            if result.is_error:
                texts.insert(0, "Error:")
            if moved:
                texts.append("[its files follow in the next message]")
                self._lost(entry, ChangeKind.FILE_MOVED)
                label = Text(f"[files of the tool call {paired.wire_id}]")
                files.append(
                    ({"role": "user", "content": self._content(entry, [label, *moved])}, seqs)
                )
            content = join("\n", texts)
            yield {"role": "tool", "tool_call_id": paired.wire_id, "content": content}, seqs
        # A tool message cannot contain files, so they follow in a message of the user.
        yield from files

    def _native_result(self, entry: Entry, paired: PairedCall, result: Result) -> JSON | None:
        content = entry.value.get("content")
        if not isinstance(content, str) and not (
            isinstance(content, list)
            and content
            and len(result.pieces) == len(content)
            and all(isinstance(piece, Text) for piece in result.pieces)
        ):
            return None
        new: JSON = {}
        for key, value in entry.value.items():
            match key:
                case "role":
                    new[key] = value
                case "tool_call_id":
                    new[key] = paired.wire_id
                case "content" if isinstance(value, str):
                    new[key] = value
                case "content":
                    new[key] = [self._text_part(entry, piece) for piece in result.pieces]
                case "name" if self._dialect.is_openai and isinstance(value, str) and value:
                    new[key] = value
                case _:
                    self._unknown(entry, new, key, value)
        return {"tool_call_id": paired.wire_id, **new}


def _is_known_audio(value: Any) -> bool:
    """Whether audio of an answer is a reference to audio that the API has stored."""
    return isinstance(value, dict) and value.keys() == {"id"} and isinstance(value["id"], str)


def _is_chat(entry: Entry) -> bool:
    """Whether a message has the form of Chat Completions, not of the Responses API."""
    return entry.format == FORMAT_OPENAI and not entry.is_item


def _is_instruction(message: JSON) -> bool:
    return message.get("role") in ("system", "developer")
