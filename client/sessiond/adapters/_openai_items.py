"""Items of the OpenAI Agents SDK as messages, and messages as items."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from sessiond._requests.input import NewMessage
from sessiond._types.message import Message
from sessiond.adapters._backend import decoded, encoded
from sessiond.adapters._history import CallIds, Item, arguments_of, text_of, url_of
from sessiond.v1 import message_pb2

FORMAT_NAME = "openai-agents"

# Roles of messages in the Responses API. An item with another role, such as "tool" of Chat
# Completions, is stored in the format "other".
_ROLES = ("user", "assistant", "system", "developer")
# Keys of Chat Completions, and its parts.
_CHAT_KEYS = ("tool_calls", "tool_call_id", "function_call")
_CHAT_PARTS = ("text", "image_url", "file")


def messages_of(items: Sequence[Any]) -> list[NewMessage]:
    """Return the messages that store items.

    Raises:
        InvalidField: if JSON cannot represent an item.
    """
    messages = []
    for i, item in enumerate(items):
        blob = encoded(item, f"items[{i}]")
        if is_response_item(item):
            messages.append(NewMessage(blob, format="openai"))
        else:
            messages.append(NewMessage(blob, format="other", format_name=FORMAT_NAME))
    return messages


def as_other(messages: Sequence[NewMessage]) -> list[NewMessage]:
    """Return messages in the format "other", which takes any JSON object."""
    return [replace(message, format="other", format_name=FORMAT_NAME) for message in messages]


def is_response_item(item: Item) -> bool:
    """Whether an item is one of the Responses API, as far as its shape shows.

    If a message in the format "openai" is no such item, another program has stored it. An example
    is a message of Chat Completions with calls.
    """
    role, content = item.get("role"), item.get("content")
    # A fast path, which nearly all messages take at each read.
    if len(item) == 2 and type(content) is str and role in _ROLES:
        return True
    if role is None:
        return isinstance(kind := item.get("type"), str) and kind != "message"
    if role not in _ROLES or any(key in item for key in _CHAT_KEYS):
        return False
    return isinstance(content, str) or (
        isinstance(content, list)
        and all(isinstance(part, dict) and part.get("type") not in _CHAT_PARTS for part in content)
    )


def own_item(message: Message) -> Item | None:
    """Return the item that a message holds; None if another program has stored it."""
    # The protobuf message as it was read. message.proto would be a converted copy.
    format = message._pb.format
    if format == message_pb2.FORMAT_OPENAI:
        item = decoded(message)
        return item if is_response_item(item) else None
    if format == message_pb2.FORMAT_OTHER and message._pb.format_name == FORMAT_NAME:
        return decoded(message)
    return None


def converted(message: Message, call_ids: CallIds) -> Iterator[Item]:
    """Yield the items for a message with typed parts."""
    role = message.role if message.role in _ROLES else "user"
    content: list[Item] = []

    def said() -> Iterator[Item]:
        if not content:
            return
        if all(part["type"] in ("input_text", "output_text") for part in content):
            text = "\n".join(part["text"] for part in content)
            yield {"role": role, "content": text}
        else:
            yield {"role": role, "content": [*content]}
        content.clear()

    for part in message.proto.parts.parts:
        match part.WhichOneof("kind"):
            case "tool_call":
                yield from said()
                call = part.tool_call
                yield {
                    "type": "function_call",
                    "call_id": call_ids.of_call(call),
                    "name": call.name,
                    "arguments": json.dumps(arguments_of(call), ensure_ascii=False),
                }
            case "tool_result":
                yield from said()
                result = part.tool_result
                yield {
                    "type": "function_call_output",
                    "call_id": call_ids.of_result(result),
                    "output": text_of(result.parts),
                }
            case "image" if role != "assistant" and (url := url_of(part.image)):
                content.append({"type": "input_image", "image_url": url, "detail": "auto"})
            case "reasoning":
                pass  # reasoning is accepted only by the provider that signed it
            case _ if text := text_of([part]):
                kind = "output_text" if role == "assistant" else "input_text"
                content.append({"type": kind, "text": text})
    yield from said()
