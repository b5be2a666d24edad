"""Messages of other programs as entries of a transcript of Claude Code."""

import uuid
from base64 import b64encode
from collections.abc import Iterable, Iterator
from typing import Any

from sessiond._types.message import Message
from sessiond.adapters._backend import decoded
from sessiond.adapters._history import CallIds, Item, Place, arguments_of, text_of
from sessiond.v1 import message_pb2

FORMAT_NAME = "claude-code"

# Fields that every entry has. A converted entry takes their values from the entry before it, or
# these defaults.
_REPEATED = {"cwd": "/", "version": "2.0.0", "gitBranch": ""}
_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")


def own_entry(message: Message) -> Item | None:
    """Return the entry that a message holds; None if another program has stored it."""
    # The protobuf message as it was read. message.proto would be a converted copy.
    read = message._pb
    is_own = read.format == message_pb2.FORMAT_OTHER and read.format_name == FORMAT_NAME
    return decoded(message) if is_own else None


def converted(message: Message, call_ids: CallIds) -> Iterator[Item]:
    """Yield the entry for a message with typed parts; nothing for a message without parts."""
    is_assistant = message.role == "assistant"
    content = [*_blocks(message.proto.parts.parts, call_ids, is_assistant)]
    if not content:
        return
    # The uuid is the same at each read, since later entries refer to it.
    created_at = message["createdAt"]
    name = f"{message.session_id}/{message.seq}/{created_at}"
    entry: Item = {
        "type": "assistant" if is_assistant else "user",
        "uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, name)),
        "timestamp": created_at,
        "isSidechain": False,
        "userType": "external",
        "message": {"role": "assistant" if is_assistant else "user", "content": content},
    }
    if is_assistant:
        entry["message"] |= {
            "id": f"msg_{uuid.uuid5(uuid.NAMESPACE_OID, name).hex}",
            "type": "message",
            "model": "<synthetic>",
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
    elif message.role in ("system", "developer"):
        entry["isMeta"] = True
    yield entry


def linked(places: Iterable[Place], session_id: str, last: Item | None) -> list[Item]:
    """Return entries. The parent of each converted entry is the entry before it.

    Args:
        places: the entries.
        session_id: the transcript's session_id.
        last: the entry before the first one. None = there is none.
    """
    entries: list[Item] = []
    for place in places:
        entry = place.item
        if not place.is_own:
            last = last or {}
            entry |= {"parentUuid": last.get("uuid"), "sessionId": session_id}
            entry |= {key: last.get(key, default) for key, default in _REPEATED.items()}
        entries.append(entry)
        # Entries without a uuid, such as titles, are no part of the conversation.
        if entry.get("uuid") and entry.get("isSidechain") is not True:
            last = entry
    return entries


def _blocks(
    parts: Iterable[message_pb2.Part], call_ids: CallIds, is_assistant: bool
) -> Iterator[Item]:
    for part in parts:
        match part.WhichOneof("kind"):
            case "tool_call":
                call = part.tool_call
                yield {
                    "type": "tool_use",
                    "id": call_ids.of_call(call),
                    "name": call.name,
                    "input": arguments_of(call),
                }
            case "tool_result":
                result = part.tool_result
                yield {
                    "type": "tool_result",
                    "tool_use_id": call_ids.of_result(result),
                    "content": [*_blocks(result.parts, call_ids, False)],
                    **({"is_error": True} if result.is_error else {}),
                }
            case "image" if not is_assistant and (source := _source(part.image)):
                yield {"type": "image", "source": source}
            case "reasoning":
                reasoning = part.reasoning
                # Reasoning is sent only to the provider that signed it.
                if is_assistant and reasoning.format == message_pb2.FORMAT_ANTHROPIC:
                    signature = reasoning.signature.decode("latin-1")
                    yield {"type": "thinking", "thinking": reasoning.text, "signature": signature}
            case _ if text := text_of([part]):
                yield {"type": "text", "text": text}


def _source(blob: message_pb2.Blob) -> dict[str, Any] | None:
    if blob.WhichOneof("source") == "inline" and blob.media_type in _IMAGES:
        data = b64encode(blob.inline).decode()
        return {"type": "base64", "media_type": blob.media_type, "data": data}
    return {"type": "url", "url": blob.uri} if blob.uri.startswith("https://") else None
