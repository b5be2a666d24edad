"""What goes into and comes out of the messages table."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A message to store: the encoded Message less what the server assigns, and what queries ask of it."""

    role: int
    format: int
    content_bytes: int
    body: bytes
