"""The text of a running answer, as the watchers of a session have received it.

A watcher that joins receives the text so far, and then each new piece. Each piece of text has an
offset, so that a piece that was missed or that arrives twice is noticed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from sessiond_server.core.events import (
    ANSWERED_SEQ,
    DELTA_CONTENT,
    MESSAGE_DELTA,
    MESSAGE_PARTIAL,
    OFFSET,
    Event,
)


@dataclass(frozen=True, slots=True)
class TextPiece:
    """A piece of the text of an answer.

    Attributes:
        turn_id: the turn.
        answered_seq: seq of the message that the model answers. A turn that is steered has several
            answers.
        offset: number of characters before the piece.
        text: the characters. "" = the piece has no text; its offset is the number of characters
            that are in the database.
    """

    turn_id: str
    answered_seq: int
    offset: int
    text: str

    @property
    def end(self) -> int:
        """Number of characters up to the end of the piece."""
        return self.offset + len(self.text)

    def since(self, offset: int) -> "TextPiece":
        """Return the part of the piece after a number of characters."""
        if offset <= self.offset:
            return self
        text = self.text[offset - self.offset :]
        return TextPiece(self.turn_id, self.answered_seq, offset, text)


@dataclass(frozen=True, slots=True)
class RunningText:
    """The running turn of a session.

    Attributes:
        turn_id: the turn.
        is_local: whether this process runs it.
        text: the known text of its answer, from the beginning; None = no text is known.
    """

    turn_id: UUID
    is_local: bool
    text: TextPiece | None


class TextSource(Protocol):
    """Looks up the texts of running turns."""

    def local(self, log: UUID) -> RunningText | None:
        """Return the turn that this process runs for a session, with the published text."""

    async def saved(self, key: UUID, log: UUID) -> RunningText | None:
        """Return the running turn of a session, with the text that is in the database."""

    def on_wanted(self, turn_id: UUID, *, freeze: bool) -> None:
        """React to another process that wants the text of a turn; see Notifier.want."""


def text_of(event: Event) -> TextPiece | None:
    """Return the piece of text in a delta; None for other events, and for deltas without offset."""
    data = event.data
    if event.type != MESSAGE_DELTA or not data or OFFSET not in data:
        return None
    return TextPiece(data["turn_id"], data[ANSWERED_SEQ], data[OFFSET], data[DELTA_CONTENT])


def data_of(piece: TextPiece) -> Mapping[str, Any]:
    """Return the data of a delta event; the inverse of text_of."""
    return {
        "turn_id": piece.turn_id,
        DELTA_CONTENT: piece.text,
        OFFSET: piece.offset,
        ANSWERED_SEQ: piece.answered_seq,
    }


def partial_data_of(piece: TextPiece) -> tuple[str, Mapping[str, Any]]:
    """Return the type and the data of the event with the text so far."""
    data = {"turn_id": piece.turn_id, "content": piece.text, ANSWERED_SEQ: piece.answered_seq}
    return MESSAGE_PARTIAL, data


class LiveText:
    """The text of one running answer.

    Attributes:
        length: number of characters that the watchers have received.
        missing: pieces that follow a gap, in order.
    """

    def __init__(self, turn_id: str, answered_seq: int) -> None:
        self.turn_id = turn_id
        self.answered_seq = answered_seq
        self.length = 0
        self.missing: list[TextPiece] = []
        self._parts: list[str] = []

    @property
    def whole(self) -> TextPiece:
        """The whole text."""
        self._parts = ["".join(self._parts)]
        return TextPiece(self.turn_id, self.answered_seq, 0, self._parts[0])

    def is_of(self, piece: TextPiece) -> bool:
        """Return whether a piece belongs to this text."""
        return (self.turn_id, self.answered_seq) == (piece.turn_id, piece.answered_seq)

    def add(self, piece: TextPiece) -> TextPiece | None:
        """Add a piece.

        Returns:
            The new part of the piece. None if no part is new, or if the piece follows a gap: then
            it is added to `missing`.
        """
        if piece.offset > self.length:
            self.missing.append(piece)
            return None
        new = piece.since(self.length)
        if not new.text:
            return None
        self._parts.append(new.text)
        self.length = new.end
        return new

    def fill(self, piece: TextPiece) -> list[TextPiece]:
        """Add the text that was looked up, and those missing pieces that follow it.

        Returns:
            The pieces that are new.
        """
        waiting, self.missing = [piece, *self.missing], []
        return [new for one in waiting if (new := self.add(one))]
