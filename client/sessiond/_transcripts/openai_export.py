"""ChatGPT's data export: conversations.json, a list of conversations, each of them a tree."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from sessiond._protocol.ids import UNFIT, message_id, part
from sessiond._transcripts.lines import items_of, members_of
from sessiond._transcripts.records import Line, Transcript, files_below, parsed, string_of
from sessiond._types.transcripts import BadLine

MAX_TITLE_CHARACTERS = 512
FORMAT_NAME = "openai-export"


def find(directory: Path) -> list[Path]:
    """Return the lists of conversations below a directory; large exports have several."""
    return files_below(directory, "conversations.json", "conversations-*.json")


def read(path: Path) -> Iterator[Transcript | BadLine]:
    """Yield the conversations in a file, one at a time."""
    count = 0
    try:
        for count, text in enumerate(items_of(path), 1):
            yield _conversation(path, text, count)
    except ValueError as error:
        yield BadLine(count + 1 if count else 0, str(error))


def _conversation(path: Path, text: str, place: int) -> Transcript | BadLine:
    try:
        value = parsed(text.encode())
    except ValueError as error:
        return BadLine(place, str(error))
    name = string_of(value.get("conversation_id")) or string_of(value.get("id"))
    if not name or not isinstance(value.get("mapping"), dict):
        return BadLine(place, "is not a conversation: it has no id, or no mapping")
    return Transcript(
        path,
        f"openai/{part(name, 200, 'conversation_id')}",
        lambda: _lines(text, string_of(value.get("current_node"))),
        title=_title(string_of(value.get("title"))),
        metadata={"openai": {"conversationId": name}},
    )


def _title(text: str) -> str:
    """Return a title that a server accepts: one line without control characters."""
    return " ".join(UNFIT.sub(" ", text).split())[:MAX_TITLE_CHARACTERS].strip()


def _lines(text: str, current_node: str) -> Iterator[Line | BadLine]:
    """Yield the nodes of a tree, each after its parent; the current branch comes last."""
    mapping = next(raw for key, raw, _ in members_of(text) if key == "mapping")
    nodes = {key: (raw, node) for key, raw, node in members_of(mapping) if isinstance(node, dict)}
    children: dict[str, list[str]] = {}
    for key in nodes:
        children.setdefault(_parent(nodes, key), []).append(key)
    current = set(_path(nodes, current_node))
    # The last node on the stack is taken first. The current branch lies below its siblings, so it
    # is taken last.
    stack = _ordered(children.get("", []), {}, current)
    previous, place = "", 0
    while stack:
        key = stack.pop()
        raw, node = nodes[key]
        place += 1
        parent = _parent(nodes, key)
        follows = None if parent == previous else message_id(parent)
        yield Line(place, raw, message_id(key), follows, FORMAT_NAME)
        previous = key
        stack += _ordered(children.get(key, []), node, current)
    if place < len(nodes):
        lost = len(nodes) - place
        yield BadLine(place, f"{lost} nodes are not connected to the conversation's first node")


def _ordered(keys: list[str], parent: dict[str, Any], current: set[str]) -> list[str]:
    """Return siblings for the stack: the current one, then the others from last to first."""
    order = parent.get("children")
    places = {key: i for i, key in enumerate(order)} if _is_names(order) else {}
    ordered = sorted(keys, key=lambda key: places.get(key, len(places)), reverse=True)
    return sorted(ordered, key=lambda key: key not in current)


def _is_names(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _parent(nodes: dict[str, tuple[str, Any]], key: str) -> str:
    """Return the parent of a node. "" = it is a root."""
    parent = nodes[key][1].get("parent")
    return parent if isinstance(parent, str) and parent in nodes and parent != key else ""


def _path(nodes: dict[str, tuple[str, Any]], key: str) -> Iterator[str]:
    """Yield a node and all nodes above it."""
    seen: set[str] = set()
    while key in nodes and key not in seen:
        seen.add(key)
        yield key
        key = _parent(nodes, key)
