"""Rows for the messages table."""

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
