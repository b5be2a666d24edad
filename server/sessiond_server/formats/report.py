"""The report of a request: content that the request lacks, or contains in another form."""

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from enum import Enum

from sessiond_server.formats.wire import replace_surrogates


class ChangeKind(Enum):
    """The kinds of changes to a part of a message.

    Each value is the description in the documentation. The comments of FitChangeKind in turn.proto
    say the same.
    """

    FIELD_REMOVED = "A field that the API does not accept is left out."
    FIELD_CHANGED = "A field has another value, because the API does not accept the stored one."
    ID_CHANGED = "A tool call and its result have another id."
    NAME_CHANGED = "A tool has another name, made of the characters that the API accepts."
    ARGUMENTS_WRAPPED = (
        "A tool call's arguments are not a JSON object, and are sent as a field of one."
    )
    ROLE_CHANGED = "A message is sent under another role, with a mark that names its own role."
    BLANK_OMITTED = "A blank text is left out."
    BLANK_REPLACED = "A blank message is replaced by a note that it is blank."
    TEXT_REPAIRED = "Half of a surrogate pair, which no API accepts, is replaced."
    FILE_REPLACED = "A file is replaced by a note, because the API does not accept it here."
    FILE_MOVED = "A file of a tool's result follows in a message of its own."
    ITEM_REPLACED = "An item that exists only in its own format is sent as text or as a note."
    THINKING_OMITTED = (
        "Reasoning is left out, because only the provider whose model wrote it accepts it, and "
        "only unchanged."
    )
    THINKING_DISABLED = (
        "Reasoning is disabled for the request, because the last answer calls tools and does not "
        "begin with reasoning."
    )
    RESULT_MISSING = "A tool call has no result; a note is sent in the place of the result."
    RESULT_MOVED = "A tool's result is moved to its call."
    RESULT_AS_TEXT = "A late, second or unrelated result of a tool is sent as text."
    CACHE_MARKER_REMOVED = "A cache marker is left out, because the API accepts at most four."
    MESSAGE_ADDED = "A message is added, because the API requires one here."
    MESSAGE_OMITTED = (
        "A message is left out, because nothing of it can be sent, or because the history has more "
        "messages than the API accepts."
    )
    MESSAGES_MERGED = "Several messages are sent as one."
    CUT_OFF_NOTED = "A note that the answer was cut off follows an incomplete answer."
    TEXT_CUT = "A text that is too long is cut, with a note about it in the request."


@dataclass(frozen=True, slots=True)
class Change:
    """One change.

    Attributes:
        seq: the message's seq. 0 = the change concerns the request, not a stored message.
        kind: what happened.
        detail: the field, type or id concerned, for people to read. "" = the whole message.
    """

    seq: int
    kind: ChangeKind
    detail: str = ""


class Report:
    """The changes of one request, in the order in which they were made. Duplicates count once."""

    def __init__(self) -> None:
        self._changes: dict[Change, None] = {}
        self._by_seq: dict[int, list[Change]] = {}
        self._kinds: dict[int, set[ChangeKind]] = {}
        self._fields: dict[int, set[str]] = {}

    def add(self, seq: int, kind: ChangeKind, detail: str = "") -> None:
        """Add a change; detail is cut to 200 characters, and made storable."""
        detail = replace_surrogates(detail[:200]).replace("\0", "\ufffd")
        change = Change(seq, kind, detail)
        if change not in self._changes:
            self._changes[change] = None
            self._by_seq.setdefault(seq, []).append(change)
            self._kinds.setdefault(seq, set()).add(kind)
            if kind in (ChangeKind.FIELD_REMOVED, ChangeKind.FIELD_CHANGED):
                self._fields.setdefault(seq, set()).add(key_of(detail))

    def add_all(self, changes: Iterable[Change]) -> None:
        """Add changes, for example those of another report."""
        for change in changes:
            self.add(change.seq, change.kind, change.detail)

    def __iter__(self) -> Iterator[Change]:
        return iter(self._changes)

    def __len__(self) -> int:
        return len(self._changes)

    def of(self, seq: int) -> list[ChangeKind]:
        """Return the kinds of change that concern a message."""
        return [change.kind for change in self.changes_of(seq)]

    def changes_of(self, seq: int) -> Sequence[Change]:
        """Return the changes that concern a message."""
        return self._by_seq.get(seq, ())

    def kinds_of(self, seq: int) -> Set[ChangeKind]:
        """Return the kinds of change that concern a message, each once."""
        return self._kinds.get(seq, frozenset())

    def has_field(self, seq: int, path: str) -> bool:
        """Whether a change of a field with the same name is reported; see key_of()."""
        return key_of(path) in self._fields.get(seq, ())


def key_of(path: str) -> str:
    """Return the last key of a field's path, without the differences between spellings."""
    return path.rpartition(".")[2].replace("_", "").lower()


class UnsendableHistory(Exception):
    """Nothing of the history can be sent to the provider.

    Attributes:
        seqs: the messages that prevent sending.
        message: an explanation for people to read.
    """

    def __init__(self, seqs: list[int], message: str) -> None:
        super().__init__(message)
        self.seqs = seqs
        self.message = message
