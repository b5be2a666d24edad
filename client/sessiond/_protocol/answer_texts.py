"""Passes on each character of a running answer once, over any number of connections."""

from __future__ import annotations

from collections.abc import Iterable

from sessiond.v1.event_pb2 import Event

PARTIAL, DELTA = "assistant.message_partial", "assistant.message_delta"


class AnswerTexts:
    """Remembers how much text of each running answer has been passed on.

    A connection to a running turn begins with the text so far. After a reconnect, only the new part
    of this text is passed on, as a delta.
    """

    def __init__(self) -> None:
        # By turn: the seq of the message that the model answers, and the number of characters that
        # have been passed on.
        self._seen: dict[str, tuple[int, int]] = {}

    def new_of(self, events: Iterable[Event]) -> list[Event]:
        """Return the events without the text that has been passed on. Events may be modified."""
        return [event for event in events if self._is_new(event)]

    def _is_new(self, event: Event) -> bool:
        if event.type in (DELTA, PARTIAL):
            return self._is_new_text(event)
        if event.type == "assistant.message":
            self._seen.pop(event.message.turn.turn_id, None)
        elif event.type == "assistant.turn_end":
            self._seen.pop(event.data.fields["turn_id"].string_value, None)
        return True

    def _is_new_text(self, event: Event) -> bool:
        fields = event.data.fields
        if "answered_seq" not in fields:
            # An older server does not send the place of the text in the answer.
            return True
        turn_id = fields["turn_id"].string_value
        answered = int(fields["answered_seq"].number_value)
        seen_of, seen = self._seen.get(turn_id, (answered, 0))
        if answered < seen_of:
            return False
        if answered > seen_of:
            seen = 0
        if event.type == PARTIAL:
            text, offset = fields["content"].string_value, 0
        else:
            text = fields["delta_content"].string_value
            offset = int(fields["offset"].number_value)
        end = offset + len(text)
        if end <= seen:
            return False
        self._seen[turn_id] = (answered, end)
        if offset < seen:
            event.type = DELTA
            fields.pop("content", None)
            fields["delta_content"].string_value = text[seen - offset :]
            fields["offset"].number_value = seen
        return True
