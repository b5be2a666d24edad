"""Rows for the messages table, and totals over these rows."""

from dataclasses import dataclass, field

MESSAGE_COLUMNS = """key, log, seq, role, format, content_bytes, created_at, body, tokens,
        total_bytes, total_tokens"""

NO_TIME = -(2**63)


@dataclass(slots=True)
class Rows:
    """Messages to store, as the columns that the insert takes, without an object per message.

    Attributes:
        roles: role of each message.
        formats: format of each message.
        sizes: size of each message's content, in bytes.
        tokens: number of tokens in each message; negative for an estimate.
        times: create time of each imported message, in microseconds since 2000-01-01 UTC; NO_TIME
            for a message without one. The list is empty if no message has a create time.
        bodies: each message encoded as a Message without the fields that the server assigns.
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
    """Totals over the messages of one append.

    Attributes:
        count: number of messages.
        content_bytes: size of all content.
        largest_bytes: size of the content of the largest message.
        tokens: number of tokens in all messages.
        estimated: number of those tokens that are estimated.
        first_words: beginning of the first user message; None if there is no user message.
        first_words_place: position of that message in the append, from 1; None if there is none.
        parent_floor: the last_seq that the session must at least have before the append, so that
            every parent_seq names a message. A parent is a stored message, or an earlier message of
            the same append.
    """

    count: int = 0
    content_bytes: int = 0
    largest_bytes: int = 0
    tokens: int = 0
    estimated: int = 0
    first_words: str | None = None
    first_words_place: int | None = None
    parent_floor: int = 0
