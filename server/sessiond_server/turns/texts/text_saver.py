"""Saves the texts that the models of this process's turns have written so far."""

import asyncio
from collections.abc import Iterable

import structlog

from sessiond_server.core.supervision import Loop
from sessiond_server.db.pool import Contention, DatabaseUnavailable, PoolExhausted
from sessiond_server.turns.runner import TurnRunner
from sessiond_server.turns.state import RunningTurn, TurnLease
from sessiond_server.turns.store.texts import Piece, TextStore

# Pause between two saves. If another process ends a turn, it keeps only the saved text. The text
# that the model wrote since the last save is lost.
INTERVAL_S = 0.5
MAX_BYTES = 4 * 1024 * 1024

log = structlog.get_logger(__name__)


class TextSaver:
    """Saves the texts of all running turns of this process, in few statements."""

    def __init__(self, store: TextStore, runner: TurnRunner, lease: TurnLease) -> None:
        self._store = store
        self._runner = runner
        self._lease = lease
        # Concurrent saves could write the same piece twice, and overwrite the newer version.
        self._lock = asyncio.Lock()

    def loops(self) -> dict[str, Loop]:
        """Return the background loop by its name."""
        return {"turn_texts": self._run}

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                await self.save(self._runner.running())
            except (DatabaseUnavailable, PoolExhausted, Contention) as e:
                log.debug("turn_texts_retrying", error=str(e))

    async def save(self, running: Iterable[RunningTurn]) -> None:
        """Save the text that these turns have received since the last save.

        Raises:
            DatabaseUnavailable, PoolExhausted, Contention: if the database does not answer.
        """
        async with self._lock:
            batch: list[tuple[RunningTurn, Piece]] = []
            size = 0
            for turn in running:
                if text := turn.text.since(turn.text.saved):
                    start, seq = turn.text.saved, turn.text.answered_seq
                    piece = Piece(turn.key, turn.log, turn.turn_id, seq, start, text)
                    batch.append((turn, piece))
                    size += len(text)
                    if size >= MAX_BYTES:
                        await self._save(batch)
                        batch, size = [], 0
            if batch:
                await self._save(batch)

    async def _save(self, batch: Iterable[tuple[RunningTurn, Piece]]) -> None:
        texts = [(turn.text, piece) for turn, piece in batch]
        for turn, _ in batch:
            turn.has_saved = True
        saved = await self._store.save([piece for _, piece in texts], self._lease.holder)
        for text, piece in texts:
            if piece.turn_id in saved:
                text.saved = piece.start + len(piece.text)
