"""A page that shows a running answer, and knows nothing but the events of a watch."""

from collections.abc import Iterable

from sessiond.v1.event_pb2 import Event


class Page:
    """A page that loads in the middle of an answer.

    Attributes:
        text: the text that it shows.
        is_first_partial: whether the first event was the text so far, not a delta.
    """

    def __init__(self) -> None:
        self.text = ""
        self.is_first_partial = False
        self._answered = 0

    def take(self, events: Iterable[Event]) -> None:
        """Show the texts of events. Each piece must directly follow the shown text."""
        for event in events:
            if event.type == "assistant.message_partial":
                assert not self.text, "the text so far comes first"
                self.text, self.is_first_partial = event.data["content"], True
                self._answered = event.data["answered_seq"]
            elif event.type == "assistant.message_delta":
                if event.data["answered_seq"] != self._answered:
                    self.text, self._answered = "", event.data["answered_seq"]
                assert event.data["offset"] == len(self.text), "each character comes once"
                self.text += event.data["delta_content"]
