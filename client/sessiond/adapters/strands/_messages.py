"""Messages of Strands as messages of a session, and back."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from strands.types.session import SessionMessage

from sessiond._async._client import AsyncClient
from sessiond._requests.input import NewMessage
from sessiond._types.message import Message
from sessiond.adapters._backend import decoded, encoded
from sessiond.adapters._history import CallIds, arguments_of, read_parts, text_of
from sessiond.v1 import message_pb2

FORMAT_NAME = "strands"

_Json: TypeAlias = dict[str, Any]


def new_message(message: SessionMessage) -> NewMessage:
    """Return the message that stores a record of Strands.

    Raises:
        InvalidField: if JSON cannot represent it.
    """
    said = message.to_message()
    blob = encoded(message.to_dict(), "session_message")
    role = said["role"] if said["role"] in ("user", "assistant") else None
    return NewMessage(blob, format="other", format_name=FORMAT_NAME, role=role)


async def records_of(
    client: AsyncClient, session_id: str, messages: Sequence[Message]
) -> list[SessionMessage]:
    """Return the records of messages.

    Messages of other programs are converted, and left out if they have nothing for a model.

    Raises:
        SessiondError: as in get_messages.
    """
    others = [message.seq for message in messages if message.format_name != FORMAT_NAME]
    call_ids = CallIds()
    converted = await read_parts(client, session_id, others, lambda m: _converted(m, call_ids))
    records = []
    for message in messages:
        number, said = message.seq - 1, converted.get(message.seq)
        if message.format_name == FORMAT_NAME:
            record = decoded(message)
            if "message" in record:
                records.append(SessionMessage.from_dict({**record, "message_id": number}))
                continue
            said = record
        if said and said["content"]:
            created = message.created_at.isoformat()
            records.append(SessionMessage(said, number, None, created, created))
    return records


def _converted(message: Message, call_ids: CallIds) -> _Json:
    content: list[_Json] = []
    for part in message.proto.parts.parts:
        match part.WhichOneof("kind"):
            case "tool_call":
                call, id = part.tool_call, call_ids.of_call(part.tool_call)
                use = {"toolUseId": id, "name": call.name, "input": arguments_of(call)}
                content.append({"toolUse": use})
            case "tool_result":
                result = part.tool_result
                content.append(
                    {
                        "toolResult": {
                            "toolUseId": call_ids.of_result(result),
                            "status": "error" if result.is_error else "success",
                            "content": [{"text": text_of(result.parts)}],
                        }
                    }
                )
            case "image" if image := _image(part.image):
                content.append(image)
            # Reasoning is left out: only the provider that signed it accepts it.
            case _ if text := text_of([part]):
                content.append({"text": text})
    # Strands has no role for instructions among the messages.
    return {"role": "assistant" if message.role == "assistant" else "user", "content": content}


def _image(blob: message_pb2.Blob) -> _Json | None:
    suffix = blob.media_type.removeprefix("image/")
    if suffix not in ("png", "jpeg", "gif", "webp") or not blob.inline:
        return None
    return {"image": {"format": suffix, "source": {"bytes": blob.inline}}}
