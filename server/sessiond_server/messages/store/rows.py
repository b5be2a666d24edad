"""Rows for the messages table, and their totals."""

from dataclasses import dataclass, field

NO_TIME = -(2**63)


@dataclass(slots=True)
class Rows:
    """Messages to store, by column as the insert takes them: no object for each message.

    Attributes:
        roles: their roles.
        formats: their formats.
        sizes: bytes of content.
        tokens: token counts; negative for estimates.
        times: create times of imported messages, in microseconds since 2000-01-01 UTC, NO_TIME for
            those without one; or empty.
        bodies: encoded Messages, without the fields that the server assigns.
    """

    roles: list[int] = field(default_factory=list)
    formats: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.bodies)


@dataclass(slots=True)
class Totals:
    """Totals of the messages of one append.

    Attributes:
        count: messages.
        content_bytes: size of their content.
        largest_bytes: content of the largest one.
        tokens: tokens of all.
        estimated: the part of `tokens` that is estimated.
        first_words: beginning of the first user message; None if there is none.
        first_words_place: which message that is, from 1; None if there is none.
        parent_floor: the least last_seq with which every parent_seq exists. A message may name any
            message before it, in the append or stored.
    """

    count: int = 0
    content_bytes: int = 0
    largest_bytes: int = 0
    tokens: int = 0
    estimated: int = 0
    first_words: str | None = None
    first_words_place: int | None = None
    parent_floor: int = 0
