"""Publishes the events of turns: their start, their deltas, their end."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import structlog

from sessiond_server.core import events
from sessiond_server.core.events import DELTA_CONTENT, Event, EventPublisher
from sessiond_server.core.pg_time import now_us
from sessiond_server.core.states import TurnState
from sessiond_server.formats.wire import replace_surrogates
from sessiond_server.providers.base import Delta
from sessiond_server.turns.state import RunningTurn, TurnChanges

MAX_LOGGED_CHARACTERS = 500

log = structlog.get_logger(__name__)


class TurnAnnouncements:
    """Publishes the events of turns."""

    def __init__(self, publisher: EventPublisher) -> None:
        self._publisher = publisher

    def started(self, running: RunningTurn) -> None:
        """Publish that a turn has started."""
        data = {"model": running.model}
        self._publish(running, events.TURN_START, running.turn_id, running.after_seq, data)

    def delta(self, running: RunningTurn, delta: Delta) -> None:
        """Publish a delta of the model's answer, in whole characters."""
        if not delta.is_reasoning:
            running.text.add(delta.text)
            self.text(running)
            return
        text, running.reasoning_half = running.reasoning_half + delta.text, ""
        if "\ud800" <= text[-1:] <= "\udbff":
            text, running.reasoning_half = text[:-1], text[-1]
        if text and not running.is_over.is_set():
            data = {DELTA_CONTENT: replace_surrogates(text)}
            self._publish(running, events.REASONING_DELTA, running.turn_id, running.after_seq, data)

    def text(self, running: RunningTurn) -> None:
        """Publish the text that has not been published, unless the turn is over.

        What comes after the end is not stored, so it must not be seen.
        """
        if not running.is_over.is_set() and (text := running.text.take_unpublished()):
            data = {DELTA_CONTENT: text}
            self._publish(running, events.MESSAGE_DELTA, running.turn_id, running.after_seq, data)

    def committed(self, changes: TurnChanges) -> None:
        """Publish the rewind, the appends and the ended turns of a committed transaction."""
        if changes.rewound:
            self._publisher.publish(changes.rewound)
        if changes.has_appended:
            self._publisher.messages_appended(changes.change.key)
        turn_id, after_seq = None, None
        for row in changes.ended:
            turn_id, after_seq = row.turn_id, row.end_seq or None
            if row.error:
                log.info(
                    "turn_ended_without_answer",
                    turn_id=str(turn_id),
                    reason=row.error["reason"],
                    error=row.error["message"][:MAX_LOGGED_CHARACTERS],
                )
                if row.state == TurnState.FAILED:
                    self._publish(changes, events.ERROR, turn_id, after_seq, row.error)
            data = {"state": TurnState(row.state).name.lower(), "stop_reason": row.stop_reason}
            self._publish(changes, events.TURN_END, turn_id, after_seq, data)
        if changes.is_idle and turn_id:
            self._publish(changes, events.IDLE, turn_id, after_seq, {})

    def _publish(
        self,
        session: RunningTurn | TurnChanges,
        type_: str,
        turn_id: UUID,
        after_seq: int | None,
        data: Mapping[str, Any],
    ) -> None:
        self._publisher.publish(
            Event(
                type_,
                session.project_id,
                session.session_id,
                session.log,
                now_us(),
                after_seq,
                {"turn_id": str(turn_id), **data},
                session.epoch,
            )
        )
