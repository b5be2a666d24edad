"""Reads the messages of ChatGPT's data export, the nodes of conversations.json."""

from collections.abc import Iterator
from typing import Any

from sessiond.v1.message_pb2 import FORMAT_OPENAI, ROLE_ASSISTANT, ROLE_OTHER, ROLE_TOOL
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
    string_of,
)
from sessiond_server.formats.read.programs.native import ROLES, foreign, said

# Contents that describe the model's work or the user's settings, for the screen.
_NOTES = ("reasoning_recap", "user_editable_context", "model_editable_context", "system_error")


def read(entry: Entry) -> Iterator[Entry]:
    """Yield a message; nothing for a message that is not given to the model.

    The stored value is the message, or the node that contains it.
    """
    value = entry.value
    if "author" not in value and "mapping" not in value:
        inner = value.get("message")
        value = inner if isinstance(inner, dict) else {}
    author, content = value.get("author"), value.get("content")
    if not (isinstance(author, dict) and isinstance(content, dict)):
        return
    if value.get("weight") == 0 or content.get("content_type") in _NOTES:
        return
    role = ROLES.get(string_of(author.get("role")), ROLE_OTHER)
    pieces = [*_contents(content)]
    recipient = string_of(value.get("recipient"))
    if role == ROLE_TOOL:
        kept = [piece for piece in pieces if isinstance(piece, Text | Media | Foreign)]
        yield said(entry, role, [Result("", string_of(author.get("name")), kept)])
    elif role == ROLE_ASSISTANT and recipient not in ("", "all"):
        # The export has no ids of calls; the tool's name and the order connect calls and results.
        text = "".join(piece.text for piece in pieces if isinstance(piece, Text))
        yield said(entry, role, [Call("", recipient, text, is_custom=True)])
    elif any(not isinstance(piece, Text) or piece.text for piece in pieces):
        yield said(entry, role, pieces)


def _contents(content: JSON) -> Iterator[Piece]:
    kind, text = content.get("content_type"), content.get("text")
    if kind == "thoughts":
        for thought in objects_of(content.get("thoughts")):
            found = (string_of(thought.get("summary")), string_of(thought.get("content")))
            yield Thinking("\n".join(filter(None, found)), "", FORMAT_OPENAI)
    elif isinstance(parts := content.get("parts"), list):
        for part in parts:
            yield from _part(part)
    elif isinstance(text, str):
        yield Text(text)
    elif isinstance(result := content.get("result"), str):
        yield Text(result)
    else:
        yield foreign(content, string_of(kind))


def _part(part: Any) -> Iterator[Content]:
    if isinstance(part, str):
        yield Text(part)
    elif isinstance(part, dict):
        kind = string_of(part.get("content_type"))
        if kind == "audio_transcription":
            yield Text(string_of(part.get("text")))
        else:
            yield foreign(part, kind)
