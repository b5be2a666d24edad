"""Creates the records of an export: session, tasks, bookmarks, messages, pieces of assets."""

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from google.protobuf import json_format

from sessiond._protocol.checks import check_function
from sessiond._protocol.file_places import file_places
from sessiond._protocol.structs import from_struct
from sessiond._protocol.times import iso
from sessiond._types.asset import URI_PREFIX, Asset
from sessiond._types.bookmark import Bookmark
from sessiond._types.message import Message
from sessiond._types.session import SessionInfo
from sessiond._types.task import Task
from sessiond.v1.message_pb2 import Part
from sessiond.v1.session_service_pb2 import ExportSessionResponse

VERSION = 1

# Large enough to keep a stream busy, small enough to hold several in memory.
PIECE_BYTES = 256 * 1024

# Bytes of an asset in one record; in base64 they have PIECE_BYTES characters. A multiple of 3, so
# that the base64 of the pieces can be concatenated.
ASSET_PIECE_BYTES = PIECE_BYTES // 4 * 3

ExportRecord: TypeAlias = tuple[str, dict[str, Any]]
"""A record's kind and its JSON object."""

Progress: TypeAlias = Callable[[int, int | None], object]
"""A function called with the numbers of messages done and of all messages. None = unknown."""


def check_progress(progress: Progress | None) -> None:
    if progress is not None:
        check_function(progress, "progress")


LISTS = {"task": "tasks", "bookmark": "bookmarks", "message": "messages", "asset": "assets"}

ASSET_ID = re.compile("[0-9a-f]{64}")

_ASSET_REFERENCE = re.compile(f"{URI_PREFIX}({ASSET_ID.pattern})")


def session_of(snapshot: ExportSessionResponse) -> SessionInfo:
    """Return the session of a snapshot, with its state."""
    state = snapshot.state_patch.set
    # A map of protobuf has no order, but exports of the same session should have the same text.
    members = ",".join(
        f"{json.dumps(key, ensure_ascii=False)}:{state[key]}" for key in sorted(state)
    )
    snapshot.session.state_json = f"{{{members}}}"
    return SessionInfo(snapshot.session)


def belongings(snapshot: ExportSessionResponse) -> Iterator[ExportRecord]:
    """Return the records of a session's tasks and bookmarks."""
    for task in snapshot.tasks:
        yield task_record(Task(task))
    for bookmark in snapshot.bookmarks:
        yield bookmark_record(Bookmark(bookmark))


def header(info: SessionInfo) -> ExportRecord:
    """Return the first record of an export."""
    session = {
        "session_id": info.session_id,
        "status": info.status,
        "model": info.model,
        "user": info.user,
        "title": info.title,
        # model_options remains text, because its exact spelling and the order of its keys matter.
        "config": sorted_value(from_struct(info._pb.config)),
        "metadata": sorted_value(info.metadata),
        # Text, because the spelling of the values matters.
        "state_json": info._pb.state_json or None,
        "idle_ttl": info.idle_ttl.total_seconds() if info.idle_ttl else None,
        "never_expires": info.never_expires,
        "created_at": iso(info.created_at),
        "active_at": iso(info.active_at),
        "last_seq": info.last_seq,
    }
    return "export", {"version": VERSION, "session": session}


def task_record(task: Task) -> ExportRecord:
    return "task", {
        "task_id": task.task_id,
        "status": task.status,
        "data": sorted_value(task.data),
        "message_seqs": task.message_seqs,
        "created_at": iso(task.created_at),
        "updated_at": iso(task.updated_at),
    }


def bookmark_record(bookmark: Bookmark) -> ExportRecord:
    return "bookmark", {
        "name": bookmark.name,
        "seq": bookmark.seq,
        "description": bookmark.description,
        "created_at": iso(bookmark.created_at),
        "updated_at": iso(bookmark.updated_at),
    }


def message_record(message: Message) -> ExportRecord:
    """Return the record of a message.

    Typed parts have the JSON form that protobuf defines, which is lossless. `content` is for people
    to read.
    """
    value = message.to_dict()
    value["metadata"] = sorted_value(value["metadata"])
    if "parts" in value:
        value["parts"] = json_format.MessageToDict(
            message.proto.parts, preserving_proto_field_name=True
        )["parts"]
    return "message", value


def asset_record(asset: Asset, offset: int, data: bytes) -> ExportRecord:
    """Return the record of a piece of an asset, at an offset in bytes."""
    return "asset", {
        "asset_id": asset.asset_id,
        "media_type": asset.media_type,
        "size": asset.size,
        "offset": offset,
        "data": base64.b64encode(data).decode("ascii"),
    }


def asset_ids(message: Message) -> Iterable[str]:
    """Return the ids of the assets that a message refers to, possibly with duplicates."""
    if message.proto.WhichOneof("content") == "parts":
        return _asset_ids_of(message.proto.parts.parts)
    # Most messages refer to no asset, and a substring search is faster than parsing.
    if URI_PREFIX not in message.proto.json:
        return ()
    strings = (holder[key] for holder, key in file_places(message.blob, message.proto.format))
    return [found[1] for text in strings if (found := _ASSET_REFERENCE.fullmatch(text))]


def _asset_ids_of(parts: Iterable[Part]) -> Iterator[str]:
    for part in parts:
        match part.WhichOneof("kind"):
            case "image" | "audio" | "file" as kind:
                if asset_id := getattr(part, kind).asset_id:
                    yield asset_id
            case "tool_result":
                yield from _asset_ids_of(part.tool_result.parts)


class ExportCounts:
    """The number of records of each kind. An asset counts once, however many pieces it has."""

    def __init__(self) -> None:
        self._of = dict.fromkeys(LISTS, 0)

    @property
    def messages(self) -> int:
        return self._of["message"]

    def count(self, record: ExportRecord) -> ExportRecord:
        """Count a record, and return it."""
        kind, value = record
        if kind in self._of and not (kind == "asset" and value.get("offset")):
            self._of[kind] += 1
        return record

    def end(self) -> ExportRecord:
        """Return the last record of an export."""
        return "end", {name: self._of[kind] for kind, name in LISTS.items()}


def sorted_value(value: Any) -> Any:
    """Return a JSON value with the keys of its objects sorted.

    A Struct has no order, but exports of the same session should have the same text.
    """
    match value:
        case dict():
            return {key: sorted_value(value[key]) for key in sorted(value)}
        case list():
            return [sorted_value(item) for item in value]
        case _:
            return value
