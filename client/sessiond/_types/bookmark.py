"""What the server says about a bookmark."""

from datetime import datetime

from sessiond._protocol.times import from_timestamp
from sessiond._types.record import Record
from sessiond.v1 import bookmark_pb2


class Bookmark(Record):
    """A bookmark as it was when the server answered; it does not change afterwards.

    Reads by attribute, and by key in both spellings: `bookmark.created_at`, `bookmark["created_at"]`, `bookmark["createdAt"]`.
    """

    __slots__ = ("_pb",)

    _fields = ("name", "seq", "description", "created_at", "updated_at")

    def __init__(self, pb: bookmark_pb2.Bookmark) -> None:
        self._pb = pb

    @property
    def name(self) -> str:
        """Its name, unique in the session."""
        return self._pb.name

    @property
    def seq(self) -> int:
        """Where it stands: after the message of this seq. 0 = before the first message."""
        return self._pb.seq

    @property
    def description(self) -> str:
        """For people to read. Empty = none."""
        return self._pb.description

    @property
    def created_at(self) -> datetime:
        """When the bookmark was created, in UTC."""
        return from_timestamp(self._pb.create_time)

    @property
    def updated_at(self) -> datetime:
        """When it was last changed, in UTC."""
        return from_timestamp(self._pb.update_time)

    def __eq__(self, other: object) -> bool:
        return self._pb == other._pb if isinstance(other, Bookmark) else NotImplemented

    def __hash__(self) -> int:
        return hash((self._pb.name, self._pb.seq))

    def __repr__(self) -> str:
        return f"Bookmark(name={self.name!r}, seq={self.seq})"
