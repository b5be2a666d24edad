"""The common part of all writers: their input, their output, and the notes that they insert."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sessiond.v1.message_pb2 import (
    ROLE_DEVELOPER,
    ROLE_SYSTEM,
    Message,
)
from sessiond_server.dialects.differences import report_differences
from sessiond_server.formats.files import SHOWN_TYPES, as_text, plain_media_type
from sessiond_server.formats.pairing import (
    Step,
    assign_ids,
    assign_names,
    pair,
)
from sessiond_server.formats.parsing import has_duplicate_keys
from sessiond_server.formats.pieces import (
    JSON,
    Content,
    Entry,
    Foreign,
    Media,
    Piece,
    Text,
)
from sessiond_server.formats.read.conversation import read_all, spoken
from sessiond_server.formats.read.readable import CUT
from sessiond_server.formats.report import ChangeKind, Report, UnsendableHistory
from sessiond_server.formats.wire import (
    AssetInfo,
    AssetString,
    has_lone_surrogates,
    join,
    stored_or_new,
)

_OPENAI_FILE = re.compile("file[a-zA-Z0-9_-]{1,96}")
IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
TEXT_TYPES = (
    *("text/", "application/json", "application/xml", "application/yaml", "image/svg+xml"),
)
# The text of a message that the API requires but the history does not have.
CONTINUE = "(Continue.)"
ASSISTANT_FIRST = "(The assistant speaks first.)"
BLANK = "(This message is blank.)"
# Items that replace the whole history before them.
SUMMARIES = frozenset({"compaction", "compaction_summary", "context_compaction"})
SYSTEM_ROLES = (ROLE_SYSTEM, ROLE_DEVELOPER)


@dataclass(frozen=True, slots=True)
class History:
    """The input of a request.

    Attributes:
        messages: the stored history, oldest first.
        system_prompt: instructions that precede the history and are not part of it. "" = none.
        options: further fields of the request, in the caller's spelling.
        assets: the project's assets that the messages refer to, by id. A reference to any other
            asset is sent as a note.
        omits_signed: whether to leave out what the provider signed or encrypted: reasoning,
            summaries and search results. True for the second attempt of a request that the provider
            refused because it could not verify them.
    """

    messages: Sequence[Message]
    system_prompt: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    assets: Mapping[str, AssetInfo] = field(default_factory=dict)
    omits_signed: bool = False


@dataclass(frozen=True, slots=True)
class FittedRequest:
    """A request that the API accepts.

    Attributes:
        body: the JSON without the model's name; may contain StoredObject and AssetString.
        report: content that the request lacks, or contains in another form.
        seqs: for each message of the body, the seqs of the stored messages that it is built from.
    """

    body: JSON
    report: Report
    seqs: Sequence[tuple[int, ...]] = ()


class Steps:
    """The history of a request, read and paired, with the ids and names for its calls.

    Attributes:
        steps: the history in order.
        report: the changes so far; the writer adds more.
        newest: the newest message that is not the system's. None = there is none.

    Raises:
        UnsendableHistory: if the history begins with a summary that only its maker can read.
    """

    def __init__(
        self,
        history: History,
        *,
        id_pattern: str,
        id_length: int,
        name_pattern: str,
        name_length: int,
        id_min_length: int = 1,
        ids_may_be_missing: bool = False,
        reads_summaries: bool = False,
    ) -> None:
        self._reads_summaries = reads_summaries
        self.report = Report()
        entries = spoken(read_all(history.messages, self.report))
        for entry in entries:
            if has_lone_surrogates(entry.raw):
                self.report.add(entry.seq, ChangeKind.TEXT_REPAIRED)
                entry.raw = ""
            elif has_duplicate_keys(entry.raw, entry.value):
                self.report.add(entry.seq, ChangeKind.FIELD_CHANGED, "keys that occur twice")
                entry.raw = ""
            if entry.is_cut_off:
                self.report.add(entry.seq, ChangeKind.CUT_OFF_NOTED)
        self._check_compaction(entries)
        self.steps: list[Step] = pair(entries, self.report)
        assign_ids(
            self.steps,
            pattern=id_pattern,
            min_length=id_min_length,
            max_length=id_length,
            may_be_missing=ids_may_be_missing,
            report=self.report,
        )
        assign_names(self.steps, pattern=name_pattern, max_length=name_length, report=self.report)
        self.newest = next(
            (entry for entry in reversed(entries) if entry.role not in SYSTEM_ROLES), None
        )
        self.assets = history.assets

    def _check_compaction(self, entries: Sequence[Entry]) -> None:
        """Check that the history does not consist of a summary alone."""
        for i, entry in enumerate(entries):
            if entry.role in SYSTEM_ROLES:
                continue
            first = entry.pieces[0] if len(entry.pieces) == 1 else None
            # If only instructions precede the item in the session, the session lacks the messages
            # that the item replaces.
            if (
                isinstance(first, Foreign)
                and first.kind in SUMMARIES
                and not (first.text or self._reads_summaries)
                and entry.seq <= i + 1
            ):
                raise UnsendableHistory(
                    [entry.seq],
                    f"message {entry.seq} is a summary that only its maker can read, and the "
                    "messages that it stands for are not in the session",
                )
            return

    def lost(self, entry: Entry, kind: ChangeKind, detail: str = "") -> None:
        """Report a change of a message."""
        self.report.add(entry.seq, kind, detail)

    def lost_extras(self, entry: Entry) -> None:
        """Report the fields of a message that are lost in a conversion."""
        for name in entry.extras:
            self.lost(entry, ChangeKind.FIELD_REMOVED, name)

    def sent(self, entry: Entry, new: JSON) -> JSON:
        """Return a message of the API's own format; in its stored form if nothing changed.

        Every difference is reported.

        Args:
            entry: the stored message.
            new: the same message as the API accepts it.
        """
        message = stored_or_new(new, entry.value, entry.raw)
        if message is new:
            report_differences(self.report, entry.seq, new, entry.value)
        return message

    def texts(self, entry: Entry, pieces: Iterable[Piece]) -> list[str]:
        """Return the contents among some pieces as texts; see as_text()."""
        return [
            self.as_text(entry, piece)
            for piece in pieces
            if isinstance(piece, Text | Media | Foreign)
        ]

    def as_text(self, entry: Entry, piece: Content, why: str = "") -> str:
        """Return a piece as text, because it cannot be sent unchanged or the API takes only text.

        Args:
            entry: the message of the piece.
            piece: the piece.
            why: why a file is not sent. "" = the API has no place for it.

        Returns:
            For a text file: its name, followed by its content. For another file: a note, so that
            the model can mention what is missing. For an item: its readable text, or a note.
        """
        if isinstance(piece, Text):
            return piece.text
        if isinstance(piece, Foreign):
            self.lost(entry, ChangeKind.ITEM_REPLACED, piece.kind)
            if piece.text.endswith(CUT):
                self.lost(entry, ChangeKind.TEXT_CUT, piece.kind)
            return foreign_text(piece)
        media_type = self.media_type(piece)
        if media_type.startswith(TEXT_TYPES) and (text := self.text_of(piece)):
            if "\ufffd" in text:
                self.lost(entry, ChangeKind.TEXT_REPAIRED, piece.name or media_type)
            return join("\n", [f"[{piece.name}]", text]) if piece.name else text
        self.lost(entry, ChangeKind.FILE_REPLACED, piece.name or media_type or piece.kind)
        return file_note(piece, media_type, why)

    def name_lost(self, entry: Entry, piece: Media) -> None:
        """Report that a file is sent without its name, because the API has no place for it."""
        if piece.name:
            self.lost(entry, ChangeKind.FIELD_REMOVED, "name")

    def text_of(self, piece: Media) -> str:
        """Return the content of a text file. "" if that is stored elsewhere, missing, or empty."""
        asset = self.assets.get(piece.asset_id)
        if asset and asset.size_bytes:
            return AssetString(piece.asset_id, is_text=True)
        return as_text(piece.data) if piece.data else ""

    def media_type(self, piece: Media) -> str:
        """Return the media type of a file; "" if it is unknown.

        For an asset that is a picture or a PDF, the type is the one that its content shows.
        """
        asset = self.assets.get(piece.asset_id)
        known = plain_media_type(asset.media_type) if asset else ""
        is_shown = {known, piece.media_type} <= SHOWN_TYPES
        return known if is_shown else piece.media_type or known

    def content_of(self, piece: Media, *, prefix: str = "") -> str:
        """Return a prefix and a file's base64. "" if the content is stored elsewhere or missing."""
        if piece.asset_id:
            known = piece.asset_id in self.assets
            return AssetString(piece.asset_id, prefix=prefix) if known else ""
        return prefix + piece.data if piece.data else ""


def foreign_text(piece: Foreign) -> str:
    """Return the readable text of an item that exists in one format only, or a note."""
    if piece.text.strip():
        return f"[{piece.kind}]\n{piece.text}"
    return f"[{piece.kind}: not sent, because only its provider can read it]"


def file_note(piece: Media, media_type: str, why: str = "") -> str:
    """Return a note which says that a file is not sent."""
    what = (piece.kind, piece.name, media_type, piece.uri[:200], piece.file_id)
    about = " ".join(filter(None, what))
    why = why or "the model's provider does not accept it here"
    return f"[{about}: not sent, because {why}]"


def is_web(uri: str) -> bool:
    """Whether a provider can fetch a file itself from this URI."""
    return uri.startswith(("https://", "http://"))


def is_openai_file(file_id: str) -> bool:
    """Whether the id of a file has the form that OpenAI requires."""
    return _OPENAI_FILE.fullmatch(file_id) is not None


def is_native(entry: Entry, pieces: Sequence[Piece]) -> bool:
    """Whether `pieces` are all pieces of the message, so that its stored JSON can be sent."""
    return bool(entry.value) and [*map(id, entry.pieces)] == [*map(id, pieces)]


def seqs_of(entries: Iterable[Entry | None]) -> tuple[int, ...]:
    """Return the seqs of stored messages, each once, in order."""
    return tuple(sorted({entry.seq for entry in entries if entry}))


def in_order(new: JSON, stored: JSON) -> JSON:
    """Return an object with its keys in the order of the stored object."""
    return {key: new[key] for key in stored if key in new} | new
