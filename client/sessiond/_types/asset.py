"""Assets: files that messages refer to."""

from datetime import datetime

from sessiond._protocol.times import from_timestamp
from sessiond._types.record import ProtoRecord
from sessiond.v1 import asset_service_pb2

# This prefix and an asset_id form a reference to the asset in a provider's JSON.
URI_PREFIX = "sessiond-asset:"


class Asset(ProtoRecord[asset_service_pb2.Asset]):
    """A file that messages may refer to.

    Fields can be read as attributes and as keys, in both spellings, as in SessionInfo.
    """

    __slots__ = ()

    _fields = ("asset_id", "size", "media_type", "created_at", "uri")
    _identity = ("asset_id", "size", "media_type")

    @property
    def asset_id(self) -> str:
        """The asset's id: the SHA-256 of its content, as 64 lower-case hexadecimal digits."""
        return self._pb.asset_id

    @property
    def size(self) -> int:
        """Size of the content, in bytes."""
        return self._pb.size

    @property
    def media_type(self) -> str:
        """The media type of the first upload, e.g. "image/png". Empty = unknown."""
        return self._pb.media_type

    @property
    def created_at(self) -> datetime:
        """Time of the first upload, in UTC."""
        return from_timestamp(self._pb.create_time)

    @property
    def uri(self) -> str:
        """The reference to the asset in a provider's JSON: "sessiond-asset:ASSET_ID"."""
        return URI_PREFIX + self.asset_id
