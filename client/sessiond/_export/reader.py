"""Reads the records of an export, and converts them to the requests of an import."""

import hashlib
import json
import os
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sessiond._export.fields import (
    Fields,
    fill_bookmark,
    fill_message,
    fill_session,
    fill_state,
    fill_task,
)
from sessiond._export.records import (
    ASSET_ID,
    LISTS,
    PIECE_BYTES,
    VERSION,
    ExportCounts,
    ExportRecord,
)
from sessiond._protocol.checks import path_of
from sessiond.errors import InvalidField, invalid_field
from sessiond.v1 import message_pb2, session_pb2
from sessiond.v1.asset_service_pb2 import UploadAssetRequest
from sessiond.v1.session_service_pb2 import ImportSessionRequest

# Every server refuses this piece, so that an import fails even after its first pieces were sent.
REFUSED_PIECE = ImportSessionRequest(
    session=session_pb2.Session(session_id="\0"), messages=[message_pb2.Message()]
)


def check_source(source: object) -> None:
    """Refuse a value that cannot be a source, such as an export's text instead of its path.

    Raises:
        InvalidField: if the value is not a source. The error says what to pass instead.
    """
    match source:
        case str() if source.lstrip("\ufeff \t\r\n").startswith("{"):
            raise invalid_field(
                "source",
                "is the text of an export, not the path of its file; give io.StringIO(text), or"
                " json.loads(text) for one JSON document",
            )
        case str() | os.PathLike():
            path_of(source, "source")
        case bytes() | bytearray():
            raise invalid_field(
                "source",
                "is bytes; give a path, the dict of export(), or  io.StringIO(content.decode())",
            )
        case Iterable() | AsyncIterable():
            pass
        case _:
            raise invalid_field(
                "source",
                f"must be a path, the dict of export(), or lines, not {type(source).__name__}",
            )


def records_of(document: object) -> Iterator[tuple[str, ExportRecord]]:
    """Read the dict of `export()`.

    Yields:
        Each record with its place for errors, e.g. "messages[3]".

    Raises:
        InvalidField: the document is not an export.
    """
    if not isinstance(document, Mapping) or "session" not in document:
        raise invalid_field("source", "is not an exported session")
    yield "export", ("export", {"version": document.get("version"), "session": document["session"]})
    counts = ExportCounts()
    # Assets must precede the messages that refer to them.
    for kind in ("task", "bookmark", "asset", "message"):
        name = LISTS[kind]
        items = document.get(name, [])
        if not isinstance(items, list | tuple):
            raise invalid_field(name, "is not a list")
        for i, item in enumerate(items):
            if not isinstance(item, Mapping):
                raise invalid_field(f"{name}[{i}]", "is not a JSON object")
            for record in _asset_pieces(item) if kind == "asset" else [(kind, dict(item))]:
                counts.count(record)
                yield f"{name}[{i}]", record
    yield "end", counts.end()


def _asset_pieces(item: Mapping[str, Any]) -> Iterator[ExportRecord]:
    """Split an asset into records of one piece each."""
    data = item.get("data")
    # The Assembler refuses data that is not a string.
    count = len(data) if isinstance(data, str) else 0
    for start in range(0, count or 1, PIECE_BYTES):
        piece = data[start : start + PIECE_BYTES] if isinstance(data, str) else data
        yield "asset", {**item, "offset": start // 4 * 3, "data": piece}


def parsed(text: str | bytes, place: str) -> Any:
    """Parse JSON.

    Raises:
        InvalidField: the text is not JSON in UTF-8.
    """
    try:
        return json.loads(text)
    except UnicodeDecodeError as error:
        raise invalid_field(place, f"is not UTF-8: {error.reason} at byte {error.start}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise invalid_field(place, f"is not JSON: {error}") from None


def record_of(text: str | bytes, place: str) -> ExportRecord:
    """Parse a line of an export.

    Raises:
        InvalidField: the line is not a record.
    """
    value = parsed(text, place)
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        raise invalid_field(place, "is not a record of an export: it has no kind")
    return value.pop("kind"), value


def is_lines(first: str | bytes) -> bool:
    """Return whether the first line of an export shows that it is JSON Lines, not one document."""
    text = first if isinstance(first, str) else first.decode("utf-8", "replace")
    if text.lstrip("\ufeff \t").startswith('{"kind"'):
        return True
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and "kind" in value


@dataclass(frozen=True, slots=True)
class AssetPiece:
    """A piece of an asset's content, to upload before the import ends."""

    asset_id: str
    media_type: str
    size: int
    data: bytes
    is_first: bool
    is_last: bool


class _PartialAsset:
    """An asset of which pieces are still missing; `offset` bytes have arrived."""

    def __init__(self, head: tuple[str, str, int]) -> None:
        self.head = head
        self.asset_id, _, self.size = head
        self.offset = 0
        self.hash = hashlib.sha256()


class Assembler:
    """Converts an export's records, in order, to pieces of ImportSession and of assets.

    Args:
        session_id: id of the new session. None = the exported id.
        request_id: the import's request_id.
    """

    def __init__(self, session_id: str | None, request_id: str) -> None:
        self._session_id = session_id
        self._piece = ImportSessionRequest(request_id=request_id)
        self._piece_bytes = 0
        self._is_head_sent = False
        self._asset: _PartialAsset | None = None
        self._asset_ids: set[str] = set()
        self._counts = ExportCounts()
        self._last_kind = ""
        self._last_place = ""
        self.total: int | None = None
        """Number of messages in the whole export. None = the export does not say."""

    @property
    def messages(self) -> int:
        """Number of messages so far."""
        return self._counts.messages

    def take(self, place: str, record: ExportRecord) -> list[ImportSessionRequest | AssetPiece]:
        """Add a record.

        Args:
            place: the record's place for errors, e.g. "line 7".
            record: the record.

        Returns:
            The requests and asset pieces to send now, in order.

        Raises:
            InvalidField: the record is invalid, or out of order.
        """
        kind, value = record
        ready: list[ImportSessionRequest | AssetPiece] = []
        if (kind == "export") != (not self._last_kind):
            raise invalid_field(
                place,
                "is a second export" if self._last_kind else "is not the beginning of an export",
            )
        if self._last_kind == "end":
            raise invalid_field(place, "comes after the end of the export")
        if self._asset and kind != "asset":
            raise self._interruption(place, self._asset)
        if kind in ("message", "asset") and not self._is_head_sent:
            # This piece is sent at once, so that the server can refuse the session before the rest.
            self._is_head_sent = True
            ready.append(self._take_piece())
        fields = Fields(place, value)
        match kind:
            case "export":
                self._take_session(place, value)
            case "task" | "bookmark" if self._last_kind in ("message", "asset"):
                raise invalid_field(
                    place,
                    f"is a {kind} after the {LISTS[self._last_kind]}; it must come before them",
                )
            case "task":
                fill_task(self._piece.tasks.add(), fields)
            case "bookmark":
                fill_bookmark(self._piece.bookmarks.add(), fields)
            case "message":
                message = self._piece.messages.add()
                expected = self._counts.messages + 1
                if (seq := fields.integer("seq")) not in (None, expected):
                    raise invalid_field(
                        place, f"has seq {seq} instead of {expected}: messages are missing"
                    )
                fill_message(message, fields)
                self._piece_bytes += len(message.json) or message.ByteSize()
            case "asset":
                ready.append(self._take_asset(fields))
            case "end":
                self._check_end(place, value)
            case _:
                raise invalid_field(place, f"has the unknown kind {kind[:40]!r}")
        self._counts.count(record)
        self._last_kind, self._last_place = kind, place
        if self._piece_bytes >= PIECE_BYTES:
            ready.append(self._take_piece())
        return ready

    def finish(self) -> ImportSessionRequest:
        """Return the last piece.

        Raises:
            InvalidField: the export is truncated.
        """
        if not self._last_kind:
            raise invalid_field("source", "is empty")
        if self._last_kind != "end":
            raise invalid_field("source", f"has no end: it was cut off after {self._last_place}")
        return self._piece

    def _take_piece(self) -> ImportSessionRequest:
        """Return the current piece, and begin the next."""
        piece, self._piece, self._piece_bytes = self._piece, ImportSessionRequest(), 0
        return piece

    @staticmethod
    def _interruption(place: str, asset: _PartialAsset) -> InvalidField:
        return invalid_field(
            place, f"interrupts asset {asset.asset_id}, which continues at offset {asset.offset}"
        )

    def _take_asset(self, fields: Fields) -> AssetPiece:
        head = (fields.text("asset_id"), fields.text("media_type"), fields.integer("size"))
        asset_id, media_type, size = head
        asset = self._asset
        if asset is None:
            if not ASSET_ID.fullmatch(asset_id):
                raise fields.fault("asset_id", "must be 64 lower-case hexadecimal digits")
            if size is None or size < 0:
                raise fields.fault("size", "must be a number of bytes")
            if asset_id in self._asset_ids:
                raise invalid_field(fields.place, f"repeats asset {asset_id}")
            # Values that protobuf cannot hold are refused here, with their place.
            fields.put(UploadAssetRequest(), "media_type", media_type)
            fields.put(UploadAssetRequest(), "size", size)
            self._asset_ids.add(asset_id)
            asset = self._asset = _PartialAsset((asset_id, media_type, size))
        elif head != asset.head:
            raise self._interruption(fields.place, asset)
        if (offset := fields.integer("offset")) != asset.offset:
            raise fields.fault(
                "offset",
                f"is {offset} instead of {asset.offset}: pieces of asset {asset_id} are missing",
            )
        data = fields.base64("data")
        is_first = not asset.offset
        asset.offset += len(data)
        asset.hash.update(data)
        if asset.offset > asset.size or (asset.size and not data):
            raise fields.fault(
                "data",
                f"has {len(data)} bytes at offset {offset} of asset {asset_id}, "
                f"which has {asset.size} in all",
            )
        if is_last := asset.offset == asset.size:
            if (digest := asset.hash.hexdigest()) != asset_id:
                raise fields.fault(
                    "data", f"is not the content of asset {asset_id}: its SHA-256 is {digest}"
                )
            self._asset = None
        return AssetPiece(asset_id, media_type, asset.size, data, is_first, is_last)

    def _take_session(self, place: str, value: Mapping[str, Any]) -> None:
        version = value.get("version")
        if version != VERSION or isinstance(version, bool):
            raise invalid_field(
                place,
                f"has format version {version!r}; this client reads version {VERSION}",
            )
        if not isinstance(value.get("session"), Mapping):
            raise invalid_field(place, "has no session")
        fields = Fields(place, value["session"])
        self.total = fields.integer("last_seq")
        fill_session(self._piece.session, fields)
        fill_state(self._piece.state_patch, fields)
        if self._session_id is not None:
            fields.put(self._piece.session, "session_id", self._session_id)

    def _check_end(self, place: str, value: Mapping[str, Any]) -> None:
        for name, count in self._counts.end()[1].items():
            if value.get(name) != count:
                raise invalid_field(
                    place, f"counts {value.get(name)} {name}, but the export has {count}"
                )
        if self.total not in (None, self.messages):
            raise invalid_field(
                place, f"comes after {self.messages} messages, but the session has {self.total}"
            )
