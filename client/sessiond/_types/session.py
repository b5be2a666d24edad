"""What the server says about a session, and about what it stored."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sessiond._protocol.names import STATE_NAMES
from sessiond._protocol.structs import from_struct
from sessiond._protocol.times import from_duration, from_timestamp
from sessiond._types.record import Record
from sessiond.v1 import session_pb2


class SessionInfo(Record):
    """A session as it was when the server answered; it does not change afterwards.

    Reads by attribute, and by key in both spellings: `info.session_id`, `info["session_id"]`, `info["sessionId"]`. The JSON
    spelling gives JSON values: `info["modifiedTime"]` is an ISO 8601 string where `info.modified_time` is a datetime.
    """

    __slots__ = ("_config", "_metadata", "_pb")

    _fields = (
        "session_id",
        "state",
        "model",
        "user",
        "title",
        "summary",
        "config",
        "metadata",
        "last_seq",
        "message_count",
        "content_bytes",
        "token_count",
        "estimated_token_count",
        "origin",
        "created_at",
        "active_at",
        "start_time",
        "modified_time",
        "idle_ttl",
        "never_expires",
        "expires_at",
        "etag",
    )

    def __init__(self, pb: session_pb2.Session) -> None:
        self._pb = pb
        self._config: dict[str, Any] | None = None
        self._metadata: dict[str, Any] | None = None

    @property
    def session_id(self) -> str:
        """The session's name within its project."""
        return self._pb.session_id

    @property
    def state(self) -> str:
        """ "active" (appends are accepted) or "destroyed" (they are not, until it is resumed)."""
        return STATE_NAMES.get(self._pb.state, "unknown")

    @property
    def model(self) -> str:
        """Name of the model that the conversation runs against. Empty = none chosen."""
        return self._pb.model

    @property
    def user(self) -> str:
        """Whom the conversation belongs to. Empty = nobody named."""
        return self._pb.user

    @property
    def title(self) -> str:
        """A name for people to read. Empty = none."""
        return self._pb.title

    @property
    def summary(self) -> str:
        """The title, or else the first words of the first user message. Empty until there is one."""
        return self._pb.summary

    @property
    def config(self) -> dict[str, Any]:
        """Settings of the conversation."""
        if self._config is None:
            self._config = from_struct(self._pb.config)
        return self._config

    @property
    def metadata(self) -> dict[str, Any]:
        """The caller's own labels."""
        if self._metadata is None:
            self._metadata = from_struct(self._pb.metadata)
        return self._metadata

    @property
    def last_seq(self) -> int:
        """The seq of the newest message. 0 = no message yet."""
        return self._pb.last_seq

    @property
    def message_count(self) -> int:
        """How many messages the session holds."""
        return self._pb.message_count

    @property
    def content_bytes(self) -> int:
        """The size of the messages' contents. Unit: bytes."""
        return self._pb.content_bytes

    @property
    def token_count(self) -> int:
        """How many tokens the messages have. Unit: tokens of the encoding that `get_token_counts` names."""
        return self._pb.token_count

    @property
    def estimated_token_count(self) -> int:
        """The part of token_count that is an estimate. Unit: tokens."""
        return self._pb.estimated_token_count

    @property
    def origin(self) -> "SessionOrigin | None":
        """Where the session was copied from. None = it is no copy."""
        origin = self._pb.origin
        return SessionOrigin(origin.session_id, origin.seq) if self._pb.HasField("origin") else None

    @property
    def created_at(self) -> datetime:
        """When the session was created, in UTC."""
        return from_timestamp(self._pb.create_time)

    @property
    def active_at(self) -> datetime:
        """When a message was last appended, or the session was created, resumed, destroyed or updated. In UTC."""
        return from_timestamp(self._pb.active_time)

    @property
    def start_time(self) -> datetime:
        """The same as created_at."""
        return self.created_at

    @property
    def modified_time(self) -> datetime:
        """The same as active_at."""
        return self.active_at

    @property
    def idle_ttl(self) -> timedelta | None:
        """How long the session lives when it is not used. None = it never expires."""
        return from_duration(self._pb.idle_ttl) if self._pb.HasField("idle_ttl") else None

    @property
    def never_expires(self) -> bool:
        """Whether the session is kept until it is deleted."""
        return not self._pb.HasField("idle_ttl")

    @property
    def expires_at(self) -> datetime | None:
        """When the session expires if it is not used before, in UTC. None = never."""
        return from_timestamp(self._pb.expire_time) if self._pb.HasField("expire_time") else None

    @property
    def etag(self) -> str:
        """Changes whenever anything but the messages and the times changes. Opaque."""
        return self._pb.etag

    def __eq__(self, other: object) -> bool:
        return self._pb == other._pb if isinstance(other, SessionInfo) else NotImplemented

    def __hash__(self) -> int:
        return hash((self._pb.session_id, self._pb.etag))

    def __repr__(self) -> str:
        return f"SessionInfo(session_id={self.session_id!r}, state={self.state!r}, last_seq={self.last_seq})"


@dataclass(frozen=True, slots=True)
class StoredRange:
    """Where messages were stored: at first_seq, first_seq + 1, ..., last_seq. Iterates over these seqs."""

    first_seq: int
    """The seq of the first message."""
    last_seq: int
    """The seq of the last message."""
    create_time: datetime
    """When they were stored, by the database's clock. In UTC."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first_seq, self.last_seq + 1))

    def __len__(self) -> int:
        return self.last_seq - self.first_seq + 1

    def __contains__(self, seq: object) -> bool:
        return seq in range(self.first_seq, self.last_seq + 1)


@dataclass(frozen=True, slots=True)
class SessionOrigin:
    """Where a copy came from. It stays as it was, whatever becomes of the source."""

    session_id: str
    """The source's id at the time of the copy."""
    seq: int
    """The last seq that was copied: up to it both sessions are the same. 0 = no message."""


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What a copy made."""

    old_session_id: str
    """The source."""
    new_session_id: str
    """The copy."""
    session: SessionInfo
    """The copy, as it is now."""


@dataclass(frozen=True, slots=True)
class SessionCopy:
    """A copy of a session."""

    session_id: str
    """The copy's id."""
    seq: int
    """The last seq that was copied."""
    created_at: datetime
    """When it was made, in UTC."""


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """How many tokens a session's messages have.

    Counted is what is said, thought, called and answered; roles, images, audio and files are not.
    """

    total_tokens: int
    """All of them. Unit: tokens."""
    estimated_tokens: int
    """The part that is estimated, a token for every 4 bytes of UTF-8, since the server had no tokenizer. 0 = all are counted."""
    encoding: str
    """The vocabulary: "o200k_base", whatever the session's model is."""
    message_count: int
    """How many messages the session holds."""

    @property
    def is_estimate(self) -> bool:
        """Whether a part of it is estimated."""
        return self.estimated_tokens > 0


@dataclass(frozen=True, slots=True)
class DeletedSessions:
    """What a deletion by filter removed or, of a dry run, would remove."""

    session_count: int
    """How many sessions."""
    message_count: int
    """How many messages these held. Messages that copies share count in each."""
