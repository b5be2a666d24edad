"""What the server says about an asset."""

from datetime import datetime

from sessiond._protocol.times import from_timestamp
from sessiond._types.record import Record
from sessiond.v1 import asset_service_pb2

# With an asset_id after it, it refers to the asset in a provider's JSON.
URI_PREFIX = "sessiond-asset:"


class Asset(Record):
    """A file that messages may refer to. Reads by attribute, and by key in both spellings, as SessionInfo does."""

    __slots__ = ("_pb",)

    _fields = ("asset_id", "size", "media_type", "created_at", "uri")

    def __init__(self, pb: asset_service_pb2.Asset) -> None:
        self._pb = pb

    @property
    def asset_id(self) -> str:
        """Its name in the project: the SHA-256 of its content, as 64 lower-case hexadecimal digits."""
        return self._pb.asset_id

    @property
    def size(self) -> int:
        """Of its content. Unit: bytes."""
        return self._pb.size

    @property
    def media_type(self) -> str:
        """The media type of its first upload, e.g. "image/png". Empty = unknown."""
        return self._pb.media_type

    @property
    def created_at(self) -> datetime:
        """When it was first uploaded, in UTC."""
        return from_timestamp(self._pb.create_time)

    @property
    def uri(self) -> str:
        """What refers to it in a provider's JSON: "sessiond-asset:ASSET_ID"."""
        return URI_PREFIX + self.asset_id

    def __repr__(self) -> str:
        return (
            f"Asset(asset_id={self.asset_id!r}, size={self.size}, media_type={self.media_type!r})"
        )
