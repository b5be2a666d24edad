"""Converts a history to the format of each provider.

A message in the provider's own format stays unchanged, except that assets are replaced by their
content, and that parts which the API rejects are removed or converted: items of the Responses API
in Chat Completions, and the fields that Anthropic's API adds to its answers. The texts, files,
calls and results of any other message are converted. Both APIs require the results of tools
directly after the message that calls them, wherever they were stored (see tool_calls).
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
    assign_call_ids,
    inline,
    media,
    merge_calls,
    read,
    texts,
)
from sessiond_server.providers.files import (
    ASSET_PREFIX,
    AssetContents,
    as_text,
    asset_id_of,
    data_url,
)
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
    """A message in the provider's own format, ready to be sent."""

    role: Role.ValueType
    value: JSON


def for_openai(
    messages: Sequence[Message], assets: AssetContents, system_prompt: str = ""
) -> list[JSON]:
    """Return the messages of a Chat Completions request."""
    sent: list[JSON] = [{"role": "system", "content": system_prompt}] if system_prompt else []
    results = _Results(entries := _entries(messages, FORMAT_OPENAI, assets))
    for entry in entries:
        if isinstance(entry, Native):
            sent.append(entry.value)
            answered = results.of(openai_calls(entry.value))
        else:
            sent += _openai_messages(entry, results)
            answered = results.of([call.call_id for call in entry.calls])
        sent += [_openai_result(result) for result in answered]
        # A tool message cannot contain files.
        sent += [_openai_files(result) for result in answered if _has_files(result)]
    return pair_tool_calls_openai(sent)


def for_anthropic(
    messages: Sequence[Message], assets: AssetContents, system_prompt: str = ""
) -> tuple[list[JSON], list[JSON]]:
    """Return the system blocks and the messages of a Messages request."""
    system: list[JSON] = [{"type": "text", "text": system_prompt}] if system_prompt else []
    sent: list[JSON] = []
    results = _Results(entries := _entries(messages, FORMAT_ANTHROPIC, assets))
    for entry in entries:
        if entry.role in (ROLE_SYSTEM, ROLE_DEVELOPER):
            system += _system_blocks(entry)
            continue
        if isinstance(entry, Native):
            sent.append(entry.value)
            answered = results.of(anthropic_calls(entry.value))
        else:
            blocks = _anthropic_blocks(entry, results)
            if blocks:
                sent.append(
                    {"role": "assistant" if _is_assistant(entry) else "user", "content": blocks}
                )
            answered = results.of([call.call_id for call in entry.calls])
        if answered:
            sent.append(
                {"role": "user", "content": [_anthropic_result(result) for result in answered]}
            )
    sent = pair_tool_calls_anthropic(sent)
    if not sent or sent[0].get("role") == "assistant":
        sent.insert(0, {"role": "user", "content": ASSISTANT_FIRST})
    return system, sent


def plain_texts(messages: Sequence[Message]) -> list[tuple[Role.ValueType, str]]:
    """Return the role and the text of each message."""
    assets = AssetContents()
    return [
        (message.role, " ".join(texts(read(message, _value(message), assets))))
        for message in messages
    ]


class _Results:
    """Results by call. One without a call in the history stays where it was stored."""

    def __init__(self, entries: Sequence[Native | NeutralMessage]) -> None:
        self._by_id: dict[str, list[Result]] = {}
        self._matched: set[int] = set()
        known = {call_id for entry in entries for call_id in _calls(entry)}
        for entry in entries:
            for result in entry.results if isinstance(entry, NeutralMessage) else ():
                if result.call_id in known:
                    self._by_id.setdefault(result.call_id, []).append(result)
                    self._matched.add(id(result))

    def of(self, call_ids: Sequence[str]) -> list[Result]:
        return [self._by_id[call_id].pop(0) for call_id in call_ids if self._by_id.get(call_id)]

    def orphans(self, message: NeutralMessage) -> list[Text | Media]:
        """Return the message's results whose call is not in the history."""
        orphans: list[Text | Media] = []
        for result in message.results:
            if id(result) not in self._matched:
                orphans += [
                    Text(f"[result of the tool call {result.call_id or result.name}]"),
                    *result.pieces,
                ]
        return orphans


def _entries(
    messages: Sequence[Message], own: Format.ValueType, assets: AssetContents
) -> list[Native | NeutralMessage]:
    entries: list[Native | NeutralMessage] = []
    run: list[NeutralMessage] = []
    for message in messages:
        value = _value(message)
        if message.format == own and (native := _native(value, own)) is not None:
            entries += merge_calls(run)
            run = []
            if ASSET_PREFIX in message.json:
                (_resolve_openai_assets if own == FORMAT_OPENAI else _resolve_anthropic_assets)(
                    native.get("content"), assets
                )
            entries.append(Native(message.role, native))
            continue
        run.append(read(message, value, assets))
    entries += merge_calls(run)
    assign_call_ids([entry for entry in entries if isinstance(entry, NeutralMessage)])
    return entries


def _value(message: Message) -> JSON:
    return json.loads(message.json) if message.json else {}


def _native(value: JSON, own: Format.ValueType) -> JSON | None:
    """Return the message as the provider's API accepts it. None = it must be converted."""
    if own == FORMAT_ANTHROPIC:
        # The API accepts only these two fields of the answers that it gave.
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


def _is_assistant(message: NeutralMessage) -> bool:
    return message.role == ROLE_ASSISTANT or bool(message.calls)


def _has_files(result: Result) -> bool:
    return any(isinstance(piece, Media) for piece in result.pieces)


# Chat Completions


def _openai_messages(message: NeutralMessage, results: _Results) -> Iterator[JSON]:
    content = [*results.orphans(message), *message.content]
    if message.role in (ROLE_SYSTEM, ROLE_DEVELOPER):
        role = "developer" if message.role == ROLE_DEVELOPER else "system"
        yield {"role": role, "content": _openai_content([_plain(piece) for piece in content])}
    elif _is_assistant(message):
        parts = [_plain(piece) for piece in content]
        answer: JSON = {"role": "assistant", "content": _openai_content(parts) if parts else None}
        if message.calls:
            answer["tool_calls"] = [
                {
                    "id": call.call_id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in message.calls
            ]
        yield answer
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


def _resolve_openai_assets(content: Any, assets: AssetContents) -> None:
    """Replace the asset references in a message's content by the assets' contents."""
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict):
            continue
        for key, field in (("image_url", "url"), ("file", "file_data"), ("input_audio", "data")):
            inner = part.get(key)
            if isinstance(inner, dict) and asset_id_of(inner.get(field)):
                found = inline(key, inner[field], "", "", assets)
                inner[field] = (
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


def _anthropic_blocks(message: NeutralMessage, results: _Results) -> list[JSON]:
    content = [*results.orphans(message), *message.content]
    if _is_assistant(message):
        return [
            *_anthropic_content([_plain(piece) for piece in content]),
            *map(_tool_use, message.calls),
        ]
    return _anthropic_content(content)


def _tool_use(call: Call) -> JSON:
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError:
        arguments = call.arguments
    # The API accepts only objects, but models write other values.
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
    """Return the blocks of the pieces, without blank texts, which the API rejects."""
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


def _resolve_anthropic_assets(content: Any, assets: AssetContents) -> None:
    """Replace the asset references in a message's content, tool results included."""
    for block in content if isinstance(content, list) else ():
        if not isinstance(block, dict):
            continue
        _resolve_anthropic_assets(block.get("content"), assets)
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
            _resolve_anthropic_assets(source.get("content"), assets)


# Both


def _is_web(uri: str) -> bool:
    return uri.startswith(("https://", "http://"))


def _plain(piece: Text | Media) -> Text:
    """Return a piece as text. It describes a file that cannot be sent, so the model can say so."""
    if isinstance(piece, Text):
        return piece
    if piece.data and piece.media_type.startswith(_TEXT_TYPES):
        return Text(as_text(piece.data))
    about = " ".join(filter(None, (piece.kind, piece.name, piece.media_type, piece.uri)))
    return Text(f"[{about}: not sent, because the model's provider does not accept it here]")
