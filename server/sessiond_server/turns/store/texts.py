"""The table turn_texts: the texts that the models of running turns have written so far.

The process that runs a turn adds pieces, about twice a second. Other processes read them: to keep
the text of a turn that they end, and to show it to watchers that join.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sessiond_server.core.states import TurnState
from sessiond_server.db.pool import Database
from sessiond_server.sessions.store.lock import Change
from sessiond_server.turns.store.rows import SavedText

# The lock on the turn makes a transaction that ends the turn wait for this statement. That
# transaction then deletes the added text. A locked turn is skipped until the next save.
_SAVE = """
WITH mine AS (
    SELECT turns.key, turns.log, turns.turn_id, answered_seq, start, content
    FROM unnest(%(keys)s::uuid[], %(logs)s::uuid[], %(turn_ids)s::uuid[],
        %(answered_seqs)s::bigint[], %(starts)s::bigint[], %(contents)s::bytea[])
        AS new (key, log, turn_id, answered_seq, start, content)
    JOIN turns USING (key, log, turn_id)
    WHERE turns.state = %(running)s AND turns.state <= 2 AND holder = %(holder)s
    FOR SHARE OF turns SKIP LOCKED)
INSERT INTO turn_texts (key, log, turn_id, answered_seq, start, content) SELECT * FROM mine
ON CONFLICT (key, log, turn_id, answered_seq, start) DO UPDATE SET content = EXCLUDED.content
RETURNING turn_id"""

# Texts with an answered_seq below end_seq belong to answers that are already stored.
_RUNNING_TEXT = """
SELECT turns.model, turns.keep_partial,
    CASE turns.end_seq WHEN 0 THEN turns.parent_seq ELSE 0 END AS parent_seq,
    answered_seq, start, content
FROM turns JOIN turn_texts USING (key, log, turn_id)
WHERE turns.key = %(key)s AND turns.log = %(log)s AND turns.turn_id = %(turn_id)s
    AND turns.state = %(running)s AND answered_seq >= turns.end_seq
ORDER BY answered_seq, start"""

_SESSION_TEXT = """
SELECT turns.turn_id, answered_seq, content
FROM sessions JOIN turns ON turns.key = sessions.key AND turns.log = sessions.log
        AND turns.turn_id = sessions.running_turn
    LEFT JOIN turn_texts ON turn_texts.key = turns.key AND turn_texts.log = turns.log
        AND turn_texts.turn_id = turns.turn_id AND answered_seq >= turns.end_seq
WHERE sessions.key = %(key)s AND sessions.log = %(log)s AND turns.state = %(running)s
ORDER BY answered_seq, start"""

DROP = """
DELETE FROM turn_texts WHERE key = %(key)s AND log = %(log)s AND turn_id = %(turn)s"""
"""Deletes the text of a turn."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a running turn's text; see the table's columns."""

    key: UUID
    log: UUID
    turn_id: UUID
    answered_seq: int
    start: int
    text: str


class TextStore:
    """The texts of running turns."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, pieces: Sequence[Piece], holder: UUID) -> set[UUID]:
        """Add pieces to the texts of turns.

        Returns:
            The turns whose pieces were added. A turn is left out if it is locked, or if the process
            does not hold it any more.
        """
        parameters = {
            "keys": [piece.key for piece in pieces],
            "logs": [piece.log for piece in pieces],
            "turn_ids": [piece.turn_id for piece in pieces],
            "answered_seqs": [piece.answered_seq for piece in pieces],
            "starts": [piece.start for piece in pieces],
            "contents": [piece.text.encode() for piece in pieces],
            "holder": holder,
            "running": TurnState.RUNNING,
        }
        return {row["turn_id"] for row in await self._database.rows(_SAVE, parameters)}

    async def to_keep(self, change: Change, turn_id: UUID) -> SavedText | None:
        """Return the text of a running turn; None if there is none, or if it must not be kept."""
        rows = await change.rows(_RUNNING_TEXT, turn_id=turn_id, running=TurnState.RUNNING)
        if not rows or not rows[0]["keep_partial"]:
            return None
        answered_seq, text = _newest(rows)
        return SavedText(rows[0]["model"], answered_seq, rows[0]["parent_seq"], text)

    async def running_text(self, key: UUID, log: UUID) -> tuple[UUID, int, str] | None:
        """Return the running turn of a session, the message that it answers, and its text so far.

        The text is "" if nothing has been saved. None = no turn is running.
        """
        rows = await self._database.rows(
            _SESSION_TEXT, {"key": key, "log": log, "running": TurnState.RUNNING}
        )
        if not rows:
            return None
        return rows[0]["turn_id"], *_newest(rows)

    async def drop(self, change: Change, turn_id: UUID) -> None:
        """Delete the text of a turn that has ended in this transaction."""
        await change.rows(DROP, turn=turn_id)


def _newest(rows: Sequence[Mapping[str, Any]]) -> tuple[int, str]:
    """Return the seq of the last answered message, and the text of its answer."""
    answered_seq = rows[-1]["answered_seq"]
    pieces = [row["content"] or b"" for row in rows if row["answered_seq"] == answered_seq]
    return answered_seq or 0, b"".join(pieces).decode()
