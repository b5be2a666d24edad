"""The texts of running turns, for their watchers; see watch/live_text.py."""

import asyncio
import time
from uuid import UUID

import structlog

from sessiond_server.core.cancellation import cancel_all
from sessiond_server.core.work import begin_work
from sessiond_server.db.pool import Contention, DatabaseUnavailable, PoolExhausted
from sessiond_server.turns.announcements import COALESCE_S, TurnAnnouncements
from sessiond_server.turns.runner import TurnRunner
from sessiond_server.turns.state import RunningTurn
from sessiond_server.turns.store.texts import TextStore
from sessiond_server.turns.texts.text_saver import TextSaver
from sessiond_server.watch.live_text import RunningText, TextPiece

# How long a text stays frozen if the expected abort does not come.
FREEZE_S = 2.0

log = structlog.get_logger(__name__)


class LiveTexts:
    """The TextSource of this process."""

    def __init__(
        self,
        store: TextStore,
        runner: TurnRunner,
        saver: TextSaver,
        announcements: TurnAnnouncements,
    ) -> None:
        self._store = store
        self._runner = runner
        self._saver = saver
        self._announcements = announcements
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Stop saving."""
        await cancel_all(self._tasks)

    def local(self, session_log: UUID) -> RunningText | None:
        running = self._runner.running_in(session_log)
        if running is None:
            return None
        text = running.text
        published = text.since(0)[: text.published]
        turn_id = str(running.turn_id)
        piece = TextPiece(turn_id, text.answered_seq, 0, published) if published else None
        return RunningText(running.turn_id, True, piece)

    async def saved(self, key: UUID, session_log: UUID) -> RunningText | None:
        found = await self._store.running_text(key, session_log)
        if found is None:
            return None
        turn_id, answered_seq, text = found
        piece = TextPiece(str(turn_id), answered_seq, 0, text) if text else None
        return RunningText(turn_id, False, piece)

    def on_wanted(self, turn_id: UUID, *, freeze: bool) -> None:
        if running := self._runner.get(turn_id):
            if freeze:
                running.text.frozen_until = time.monotonic() + FREEZE_S
                # If no further delta arrives, only this call publishes the text received meanwhile.
                loop = asyncio.get_running_loop()
                loop.call_later(FREEZE_S + COALESCE_S, self._announcements.flush, running)
            task = asyncio.create_task(self._save(running))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _save(self, running: RunningTurn) -> None:
        begin_work("turn_texts")
        try:
            await self._saver.save([running])
        except (DatabaseUnavailable, PoolExhausted, Contention) as e:
            log.debug("turn_text_not_saved", turn_id=str(running.turn_id), error=str(e))
        else:
            self._announcements.saved(running)
