"""Publishes the events of turns: their start, their deltas, their end."""

import asyncio
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
from sessiond_server.quotas.service import Quotas
from sessiond_server.telemetry import metrics
from sessiond_server.turns.state import RunningTurn, TurnNews
from sessiond_server.turns.store.rows import TurnRow
from sessiond_server.watch.live_text import TextPiece, data_of

# Deltas of a turn that arrive within this time are published as one event. An overloaded process
# waits longer, because fewer and longer events leave more time for other calls.
COALESCE_S, LONGEST_COALESCE_S = 0.02, 0.1
BEHIND_S = 0.005

log = structlog.get_logger(__name__)


class TurnAnnouncements:
    """Publishes the events of turns, and counts their tokens."""

    def __init__(self, publisher: EventPublisher, quotas: Quotas) -> None:
        self._publisher = publisher
        self._quotas = quotas
        self._coalesce_s = COALESCE_S

    def started(self, running: RunningTurn) -> None:
        """Publish that a turn has started."""
        data = {"model": running.model}
        self._publish(running, events.TURN_START, running.turn_id, running.after_seq, data)

    def delta(self, running: RunningTurn, delta: Delta) -> None:
        """Publish a delta of the model's answer. The first delta of a turn is published at once."""
        text = running.text
        if text.published < text.length if delta.is_reasoning else running.reasoning:
            # Publish the waiting text of the other kind (reasoning or answer) first, because it was
            # written earlier.
            self.flush(running)
        if delta.is_reasoning:
            running.reasoning += delta.text
        else:
            running.text.add(delta.text)
        if running.flushing is None:
            if running.has_published:
                loop = asyncio.get_running_loop()
                due = loop.time() + self._coalesce_s
                running.flushing = loop.call_at(due, self._flush_due, running, due)
            else:
                running.has_published = True
                self.flush(running)

    def _flush_due(self, running: RunningTurn, due: float) -> None:
        if asyncio.get_running_loop().time() > due + BEHIND_S:
            self._coalesce_s = min(self._coalesce_s * 1.1, LONGEST_COALESCE_S)
        else:
            self._coalesce_s = max(self._coalesce_s * 0.99, COALESCE_S)
        self.flush(running)

    def flush(self, running: RunningTurn) -> None:
        """Publish the text that has not been published, in whole characters.

        After the end of the turn, nothing is published: text that arrives then is not stored, so
        no watcher must see it.
        """
        if running.flushing:
            running.flushing.cancel()
            running.flushing = None
        if running.is_over.is_set():
            return
        reasoning, running.reasoning = running.reasoning, ""
        if "\ud800" <= reasoning[-1:] <= "\udbff":
            reasoning, running.reasoning = reasoning[:-1], reasoning[-1]
        if reasoning:
            data = {"turn_id": str(running.turn_id), DELTA_CONTENT: replace_surrogates(reasoning)}
            self._publish_delta(running, events.REASONING_DELTA, data)
        text = running.text
        start = text.published
        if added := text.take_unpublished():
            piece = TextPiece(str(running.turn_id), text.answered_seq, start, added)
            self._publish_delta(running, events.MESSAGE_DELTA, data_of(piece))

    def saved(self, running: RunningTurn) -> None:
        """Publish an empty delta that tells other processes how much text is in the database."""
        text = running.text
        if not running.is_over.is_set():
            piece = TextPiece(str(running.turn_id), text.answered_seq, text.saved, "")
            self._publish_delta(running, events.MESSAGE_DELTA, data_of(piece))

    def _publish_delta(self, running: RunningTurn, type_: str, data: Mapping[str, Any]) -> None:
        self._publisher.publish(
            Event(
                type_,
                running.project_id,
                running.session_id,
                running.log,
                now_us(),
                running.after_seq,
                data,
                running.epoch,
            )
        )

    def committed(self, changes: TurnNews) -> None:
        """Publish the rewind, the appends and the ended turns of a commit."""
        if changes.rewound:
            self._publisher.publish(changes.rewound)
        for messages, content_bytes in changes.stored:
            metrics.stored(messages, content_bytes)
        if changes.messages:
            self._publisher.messages_stored(changes.key, changes.messages)
        elif changes.has_appended:
            self._publisher.messages_appended(changes.key)
        turn_id, after_seq = None, None
        if changes.ended:
            self._quotas.end_turns(changes.project_id, len(changes.ended))
        for row in changes.ended:
            if row.usage:  # only input and output tokens; the other numbers are parts of these
                self._quotas.add_tokens(changes.project_id, sum(row.usage[:2]))
            turn_id, after_seq = row.turn_id, row.end_seq or None
            _count(row)
            if row.error:
                log.info(
                    "turn_ended_without_answer",
                    turn_id=str(turn_id),
                    reason=row.error["reason"],
                )
                if row.state == TurnState.FAILED:
                    self._publish(changes, events.ERROR, turn_id, after_seq, row.error)
            data = {"state": TurnState(row.state).name.lower(), "stop_reason": row.stop_reason}
            self._publish(changes, events.TURN_END, turn_id, after_seq, data)
        if changes.is_idle and turn_id:
            self._publish(changes, events.IDLE, turn_id, after_seq, {})

    def _publish(
        self,
        session: RunningTurn | TurnNews,
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


def _count(row: TurnRow) -> None:
    """Count a turn that has ended."""
    model, state = metrics.model_label(row.model), TurnState(row.state).name.lower()
    reason = row.error["reason"] if row.error else ""
    metrics.TURNS_ENDED.labels(model, state, reason).inc()
    if reason == "TURN_LOST":
        metrics.TURNS_LOST.inc()
    if row.started_at and row.ended_at:
        took = row.ended_at - row.started_at
        metrics.TURN_SECONDS.labels(model, state).observe(took.total_seconds())
    for kind, tokens in zip(metrics.TOKEN_KINDS, row.usage or (), strict=False):
        metrics.TOKENS.labels(model, kind).inc(tokens)
