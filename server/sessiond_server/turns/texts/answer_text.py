"""The text of the answer that a model is writing."""

import time

from sessiond_server.formats.wire import replace_surrogates


class AnswerText:
    """The text that a model has written in one call.

    Attributes:
        answered_seq: seq of the message that the model answers; 0 before the model is called. It
            distinguishes the answers of a turn that is steered.
        length: number of characters received.
        published: number of characters that watchers may have seen.
        saved: number of characters that are in the database.
        is_frozen: whether nothing may be published, because the text is being stored.
        frozen_until: time on the monotonic clock until which nothing may be published, because
            another process is storing the text.
    """

    def __init__(self) -> None:
        self.answered_seq = 0
        self.length = 0
        self.published = 0
        self.saved = 0
        self.is_frozen = False
        self.frozen_until = 0.0
        # The first half of a surrogate pair whose second half begins the next delta.
        self._half = ""
        self._pieces: list[str] = []

    def add(self, text: str) -> None:
        """Add a delta. Half of a surrogate pair at its end waits for the next delta."""
        text, self._half = self._half + text, ""
        if "\ud800" <= text[-1:] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        if text:
            text = replace_surrogates(text)
            self._pieces.append(text)
            self.length += len(text)

    def since(self, start: int) -> str:
        """Return the text after the first `start` characters."""
        wanted = self.length - start
        if wanted <= 0:
            return ""
        place, found = len(self._pieces), 0
        while found < wanted:
            place -= 1
            found += len(self._pieces[place])
        return "".join(self._pieces[place:])[found - wanted :]

    def take_unpublished(self) -> str:
        """Return the text that has not been published, and count it as published."""
        is_frozen = self.is_frozen or self.frozen_until > time.monotonic()
        text = "" if is_frozen else self.since(self.published)
        self.published += len(text)
        return text
