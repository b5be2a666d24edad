"""Messages of Strands as messages of a session, and back."""

from typing import Any, TypeAlias

import orjson
from strands.types.session import SessionMessage

from sessiond._requests.input import NewMessage
from sessiond._types.message import Message
from sessiond.adapters._backend import decoded, encoded
from sessiond.adapters._foreign import Call, Result, Text, said_in

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


def record_of(message: Message) -> SessionMessage:
    """Return the record of a message: as it was stored, or of what another program said."""
    number = message.seq - 1
    if message.format_name == FORMAT_NAME:
        record = decoded(message)
        if "message" in record:
            restored: SessionMessage = SessionMessage.from_dict({**record, "message_id": number})
            return restored
        said = record
    else:
        said = _converted(message)
    created = message.created_at.isoformat()
    return SessionMessage(said, number, None, created, created)


def is_empty(message: Message, restored: SessionMessage) -> bool:
    """Whether a message of another program has nothing in it for a model."""
    return message.format_name != FORMAT_NAME and not restored.message["content"]


def _converted(message: Message) -> _Json:
    said = said_in(message)
    content: list[_Json] = []
    for piece in said.pieces:
        match piece:
            case Text(text):
                content.append({"text": text})
            case Call(call_id, name, arguments):
                use = {"toolUseId": call_id, "name": name, "input": _input(arguments)}
                content.append({"toolUse": use})
            case Result(call_id, _, text):
                result = {"toolUseId": call_id, "status": "success", "content": [{"text": text}]}
                content.append({"toolResult": result})
    # Strands knows no instructions among the messages.
    role = "assistant" if said.role == "assistant" else "user"
    return {"role": role, "content": content}


def _input(arguments: str) -> Any:
    try:
        return orjson.loads(arguments)
    except ValueError:
        return arguments
