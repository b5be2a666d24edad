"""Reads the turns of ShareGPT's conversations: {"from": "human", "value": "..."}."""

from collections.abc import Iterator

from sessiond.v1.message_pb2 import FORMAT_OPENAI, ROLE_OTHER, ROLE_TOOL
from sessiond_server.formats.pieces import Call, Entry, Piece, Result, Text, string_of
from sessiond_server.formats.read.programs.native import ROLES, native, said

_SPEAKERS = {
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "claude": "assistant",
    "bot": "assistant",
    "prompter": "user",
    "observation": "tool",
    "tool_response": "tool",
    "function_response": "tool",
    "function_call": "assistant",
    "tool_call": "assistant",
}


def read(entry: Entry) -> Iterator[Entry]:
    """Yield a turn. Calls and results have no ids; their order connects them."""
    value = entry.value
    if "from" not in value and isinstance(value.get("role"), str):
        yield native(entry, FORMAT_OPENAI, value)
        return
    speaker = string_of(value.get("from")).lower()
    role = ROLES.get(_SPEAKERS.get(speaker, speaker), ROLE_OTHER)
    text = string_of(value.get("value")) or string_of(value.get("text"))
    piece: Piece = Text(text)
    if speaker in ("function_call", "tool_call"):
        piece = Call("", "", text, is_custom=True)
    elif role == ROLE_TOOL:
        piece = Result("", "", [Text(text)])
    yield said(entry, role, [piece])
