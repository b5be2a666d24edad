"""The history as each provider takes it.

A message in the provider's own format goes unchanged, but for assets, whose content is put in, and for what the API refuses: items of the
Responses API in Chat Completions, and what Anthropic's API adds to its answers. Any other is converted: text, files, calls and results.
Results of tools stand right after the message that called them, as both APIs want it, wherever they were stored (see mending).
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_OPENAI,
    ROLE_ASSISTANT,
    ROLE_DEVELOPER,
    ROLE_SYSTEM,
    Format,
    Message,
    Role,
)
from sessiond_server.providers.content import (
    Call,
    Media,
    NeutralMessage,
    Result,
    Text,
    inline,
    joined,
    media,
    read,
    settle_calls,
    texts,
)
from sessiond_server.providers.files import ASSET_PREFIX, Assets, as_text, asset_id_of, data_url
from sessiond_server.providers.tool_calls import (
    anthropic_calls,
    openai_calls,
    pair_tool_calls_anthropic,
    pair_tool_calls_openai,
)

JSON: TypeAlias = dict[str, Any]
_RESPONSES_PARTS = {"input_text", "output_text", "input_image", "input_file"}
_ANTHROPIC_ID = re.compile(r"[^a-zA-Z0-9_-]")
_TEXT_TYPES = ("text/", "application/json")
ASSISTANT_FIRST = "(The assistant speaks first.)"


@dataclass(frozen=True, slots=True)
class Native:
    """A message in the provider's own format, as it will be sent."""

    role: Role.ValueType
    value: JSON


def for_openai(messages: Sequence[Message], assets: Assets, system_prompt: str = "") -> list[JSON]:
    """The messages of a Chat Completions request."""
    sent: list[JSON] = [{"role": "system", "content": system_prompt}] if system_prompt else []
    answers = _Answers(entries := _entries(messages, FORMAT_OPENAI, assets))
    for entry in entries:
        if isinstance(entry, Native):
            sent.append(entry.value)
            answered = answers.of(openai_calls(entry.value))
        else:
            sent += _openai_messages(entry, answers)
            answered = answers.of([call.call_id for call in entry.calls])
        sent += [_openai_result(result) for result in answered]
        # Files cannot stand in a tool's message.
        sent += [_openai_files(result) for result in answered if _has_files(result)]
    return pair_tool_calls_openai(sent)


def for_anthropic(
    messages: Sequence[Message], assets: Assets, system_prompt: str = ""
) -> tuple[list[JSON], list[JSON]]:
    """The system blocks and the messages of a Messages request."""
    system: list[JSON] = [{"type": "text", "text": system_prompt}] if system_prompt else []
    sent: list[JSON] = []
    answers = _Answers(entries := _entries(messages, FORMAT_ANTHROPIC, assets))
    for entry in entries:
        if entry.role in (ROLE_SYSTEM, ROLE_DEVELOPER):
            system += _system_blocks(entry)
            continue
        if isinstance(entry, Native):
            sent.append(entry.value)
            answered = answers.of(anthropic_calls(entry.value))
        else:
            blocks = _anthropic_blocks(entry, answers)
            if blocks:
                sent.append(
                    {"role": "assistant" if _is_assistant(entry) else "user", "content": blocks}
                )
            answered = answers.of([call.call_id for call in entry.calls])
        if answered:
            sent.append(
                {"role": "user", "content": [_anthropic_result(result) for result in answered]}
            )
    sent = pair_tool_calls_anthropic(sent)
    if not sent or sent[0].get("role") == "assistant":
        sent.insert(0, {"role": "user", "content": ASSISTANT_FIRST})
    return system, sent


def plain_texts(messages: Sequence[Message]) -> list[tuple[Role.ValueType, str]]:
    """Returns the role and the text of each message."""
    assets = Assets()
    return [
        (message.role, " ".join(texts(read(message, _value(message), assets))))
        for message in messages
    ]


class _Answers:
    """The results of calls, each given out once: with its call where that is found, else where it was stored."""

    def __init__(self, entries: Sequence[Native | NeutralMessage]) -> None:
        self._by_id: dict[str, list[Result]] = {}
        self._given: set[int] = set()
        # Results without a call that is sent are no answers.
        known = {call_id for entry in entries for call_id in _calls(entry)}
        for entry in entries:
            for result in entry.results if isinstance(entry, NeutralMessage) else ():
                if result.call_id in known:
                    self._by_id.setdefault(result.call_id, []).append(result)
                    self._given.add(id(result))

    def of(self, call_ids: Sequence[str]) -> list[Result]:
        """The results of these calls."""
        return [self._by_id[call_id].pop(0) for call_id in call_ids if self._by_id.get(call_id)]

    def strays(self, spoken: NeutralMessage) -> list[Text | Media]:
        """What the message has of results whose call is not in the history."""
        strays: list[Text | Media] = []
        for result in spoken.results:
            if id(result) not in self._given:
                strays += [
                    Text(f"[result of the tool call {result.call_id or result.name}]"),
                    *result.pieces,
                ]
        return strays


def _entries(
    messages: Sequence[Message], own: Format.ValueType, assets: Assets
) -> list[Native | NeutralMessage]:
    entries: list[Native | NeutralMessage] = []
    run: list[NeutralMessage] = []
    for message in messages:
        value = _value(message)
        if message.format == own and (native := _native(value, own)) is not None:
            entries += joined(run)
            run = []
            if ASSET_PREFIX in message.json:
                (_put_into_openai if own == FORMAT_OPENAI else _put_into_anthropic)(
                    native.get("content"), assets
                )
            entries.append(Native(message.role, native))
            continue
        run.append(read(message, value, assets))
    entries += joined(run)
    settle_calls([entry for entry in entries if isinstance(entry, NeutralMessage)])
    return entries


def _value(message: Message) -> JSON:
    return json.loads(message.json) if message.json else {}


def _native(value: JSON, own: Format.ValueType) -> JSON | None:
    """The message as the provider's API takes it. None = it has to be converted."""
    if own == FORMAT_ANTHROPIC:
        # Whole answers of the API are stored as well, but it takes back nothing of them but this.
        return (
            {"role": value.get("role"), "content": value.get("content")}
            if value.get("type") == "message"
            else value
        )
    content = value.get("content")
    is_item = "role" not in value or any(
        isinstance(part, dict) and part.get("type") in _RESPONSES_PARTS
        for part in (content if isinstance(content, list) else ())
    )
    return None if is_item or value.get("type") == "message" else value


def _calls(entry: Native | NeutralMessage) -> list[str]:
    if isinstance(entry, NeutralMessage):
        return [call.call_id for call in entry.calls]
    return [*openai_calls(entry.value), *anthropic_calls(entry.value)]


def _is_assistant(spoken: NeutralMessage) -> bool:
    return spoken.role == ROLE_ASSISTANT or bool(spoken.calls)


def _has_files(result: Result) -> bool:
    return any(isinstance(piece, Media) for piece in result.pieces)


# Chat Completions


def _openai_messages(spoken: NeutralMessage, answers: _Answers) -> Iterator[JSON]:
    content = [*answers.strays(spoken), *spoken.content]
    if spoken.role in (ROLE_SYSTEM, ROLE_DEVELOPER):
        role = "developer" if spoken.role == ROLE_DEVELOPER else "system"
        yield {"role": role, "content": _openai_content([_plain(piece) for piece in content])}
    elif _is_assistant(spoken):
        parts = [_plain(piece) for piece in content]
        message: JSON = {"role": "assistant", "content": _openai_content(parts) if parts else None}
        if spoken.calls:
            message["tool_calls"] = [
                {
                    "id": call.call_id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in spoken.calls
            ]
        yield message
    elif content:
        yield {"role": "user", "content": _openai_content(content)}


def _openai_result(result: Result) -> JSON:
    parts: list[Text | Media] = [piece for piece in result.pieces if isinstance(piece, Text)]
    if result.is_error:
        parts.insert(0, Text("Error:"))
    if _has_files(result):
        parts.append(Text("[its files follow in the next message]"))
    return {"role": "tool", "tool_call_id": result.call_id, "content": _openai_content(parts)}


def _openai_files(result: Result) -> JSON:
    files = [piece for piece in result.pieces if isinstance(piece, Media)]
    return {
        "role": "user",
        "content": _openai_content([Text(f"[files of the tool call {result.call_id}]"), *files]),
    }


def _openai_content(pieces: Sequence[Text | Media]) -> str | list[JSON]:
    if not pieces:
        return ""
    if len(pieces) == 1 and isinstance(pieces[0], Text):
        return pieces[0].text
    return [_openai_part(piece) for piece in pieces]


def _openai_part(piece: Text | Media) -> JSON:
    if isinstance(piece, Media):
        if piece.kind == "image" and (piece.data or _is_web(piece.uri)):
            url = data_url(piece.media_type or "image/png", piece.data) if piece.data else piece.uri
            return {"type": "image_url", "image_url": {"url": url}}
        if piece.data and (sound := _OPENAI_SOUNDS.get(piece.media_type)):
            return {"type": "input_audio", "input_audio": {"data": piece.data, "format": sound}}
        if piece.data and piece.kind == "file" and not piece.media_type.startswith(_TEXT_TYPES):
            return {
                "type": "file",
                "file": {
                    "filename": piece.name or "file",
                    "file_data": data_url(piece.media_type, piece.data),
                },
            }
    return {"type": "text", "text": _plain(piece).text}


_OPENAI_SOUNDS = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}


def _put_into_openai(content: Any, assets: Assets) -> None:
    """Put the contents of assets where a message's content names them."""
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict):
            continue
        for key, field in (("image_url", "url"), ("file", "file_data"), ("input_audio", "data")):
            held = part.get(key)
            if isinstance(held, dict) and asset_id_of(held.get(field)):
                found = inline(key, held[field], "", "", assets)
                held[field] = (
                    found.data if key == "input_audio" else data_url(found.media_type, found.data)
                )


# Messages


def _system_blocks(entry: Native | NeutralMessage) -> list[JSON]:
    if isinstance(entry, NeutralMessage):
        return [
            {"type": "text", "text": _plain(piece).text}
            for piece in entry.content
            if _plain(piece).text.strip()
        ]
    content = entry.value.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content.strip() else []
    return content if isinstance(content, list) else []


def _anthropic_blocks(spoken: NeutralMessage, answers: _Answers) -> list[JSON]:
    content = [*answers.strays(spoken), *spoken.content]
    if _is_assistant(spoken):
        return [
            *_anthropic_content([_plain(piece) for piece in content]),
            *map(_tool_use, spoken.calls),
        ]
    return _anthropic_content(content)


def _tool_use(call: Call) -> JSON:
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError:
        arguments = call.arguments
    # The API takes nothing but an object. Models do write other things.
    return {
        "type": "tool_use",
        "id": _anthropic_id(call.call_id),
        "name": call.name,
        "input": arguments if isinstance(arguments, dict) else {"arguments": arguments},
    }


def _anthropic_id(call_id: str) -> str:
    return _ANTHROPIC_ID.sub("_", call_id)


def _anthropic_result(result: Result) -> JSON:
    block: JSON = {"type": "tool_result", "tool_use_id": _anthropic_id(result.call_id)}
    content = _anthropic_content(result.pieces)
    if len(content) == 1 and content[0]["type"] == "text":
        block["content"] = content[0]["text"]
    elif content:
        block["content"] = content
    if result.is_error:
        block["is_error"] = True
    return block


def _anthropic_content(pieces: Sequence[Text | Media]) -> list[JSON]:
    """Blocks of the pieces, but for texts of nothing but white space, which the API refuses."""
    blocks = [_anthropic_block(piece) for piece in pieces]
    return [block for block in blocks if block["type"] != "text" or block["text"].strip()]


def _anthropic_block(piece: Text | Media) -> JSON:
    if isinstance(piece, Media):
        if piece.kind == "image" and (piece.data or _is_web(piece.uri)):
            return {"type": "image", "source": _source(piece, "image/png")}
        if piece.media_type == "application/pdf" and (piece.data or _is_web(piece.uri)):
            return {"type": "document", "source": _source(piece, piece.media_type)} | (
                {"title": piece.name} if piece.name else {}
            )
    return {"type": "text", "text": _plain(piece).text}


def _source(piece: Media, default_type: str) -> JSON:
    if piece.data:
        return {
            "type": "base64",
            "media_type": piece.media_type or default_type,
            "data": piece.data,
        }
    return {"type": "url", "url": piece.uri}


def _put_into_anthropic(content: Any, assets: Assets) -> None:
    """Put the contents of assets where a message's content names them, in results of tools, too."""
    for block in content if isinstance(content, list) else ():
        if not isinstance(block, dict):
            continue
        _put_into_anthropic(block.get("content"), assets)
        source = block.get("source")
        if not isinstance(source, dict):
            continue
        if asset_id_of(source.get("url")):
            found = media("file", source["url"], "", "", assets)
            default_type = "image/png" if block.get("type") == "image" else "application/pdf"
            if found.media_type.startswith(_TEXT_TYPES):
                block["source"] = {
                    "type": "text",
                    "media_type": "text/plain",
                    "data": as_text(found.data),
                }
            else:
                block["source"] = {
                    "type": "base64",
                    "media_type": found.media_type or default_type,
                    "data": found.data,
                }
        elif asset_id_of(source.get("data")):
            found = inline("file", source["data"], "", "", assets)
            source["data"] = as_text(found.data) if source.get("type") == "text" else found.data
        else:
            _put_into_anthropic(source.get("content"), assets)


# Both


def _is_web(uri: str) -> bool:
    return uri.startswith(("https://", "http://"))


def _plain(piece: Text | Media) -> Text:
    """A piece as text: a file that cannot be sent as such is told of, that the model may say so."""
    if isinstance(piece, Text):
        return piece
    if piece.data and piece.media_type.startswith(_TEXT_TYPES):
        return Text(as_text(piece.data))
    about = " ".join(filter(None, (piece.kind, piece.name, piece.media_type, piece.uri)))
    return Text(f"[{about}: not sent, since the model's provider does not take it here]")
