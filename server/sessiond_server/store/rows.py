"""What goes into the messages table."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Rows:
    """Messages to store, column by column, as the insert wants them: no object for each message.

    bodies are encoded Messages less what the server assigns; sizes are their content in bytes; tokens are negative where estimated.
    """

    roles: list[int] = field(default_factory=list)
    formats: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.bodies)
