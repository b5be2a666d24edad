"""What goes into the messages table."""

from dataclasses import dataclass, field

NO_TIME = -(2**63)


@dataclass(slots=True)
class Rows:
    """Messages to store, column by column, as the insert wants them: no object for each message.

    bodies are encoded Messages less what the server assigns; sizes are their content in bytes; tokens are negative where estimated.
    times are those of messages that bring their own, in microseconds since 2000-01-01 UTC, NO_TIME for those that do not; or empty.
    """

    roles: list[int] = field(default_factory=list)
    formats: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.bodies)
