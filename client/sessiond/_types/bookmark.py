"""Bookmarks: names for positions in a session."""

from datetime import datetime

from sessiond._protocol.times import from_timestamp
from sessiond._types.record import ProtoRecord
from sessiond.v1 import bookmark_pb2


class Bookmark(ProtoRecord[bookmark_pb2.Bookmark]):
    """A bookmark as the server returned it; it does not change afterwards.

    Fields can be read as attributes and as keys, in both spellings: `bookmark.created_at`,
    `bookmark["created_at"]`, `bookmark["createdAt"]`.
    """

    __slots__ = ()

    _fields = ("name", "seq", "description", "created_at", "updated_at")
    _identity = ("name", "seq")

    @property
    def name(self) -> str:
        """The bookmark's name, unique in its session."""
        return self._pb.name

    @property
    def seq(self) -> int:
        """The seq of the message that the bookmark follows. 0 = before the first message."""
        return self._pb.seq

    @property
    def description(self) -> str:
        """A description for people to read. Empty = none."""
        return self._pb.description

    @property
    def created_at(self) -> datetime:
        """Time of creation, in UTC."""
        return from_timestamp(self._pb.create_time)

    @property
    def updated_at(self) -> datetime:
        """Time of the last change, in UTC."""
        return from_timestamp(self._pb.update_time)
