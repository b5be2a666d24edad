"""Sessions, and the results of calls that change them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sessiond._protocol.model_options import with_dict
from sessiond._protocol.names import SESSION_STATUS_NAMES
from sessiond._protocol.structs import from_struct
from sessiond._protocol.times import from_duration, from_timestamp
from sessiond._types.message import Message
from sessiond._types.record import ProtoRecord
from sessiond.v1 import session_pb2, session_service_pb2


class SessionInfo(ProtoRecord[session_pb2.Session]):
    """A session as the server returned it; it does not change afterwards.

    Fields can be read as attributes and as keys, in both spellings: `info.session_id`,
    `info["session_id"]`, `info["sessionId"]`. The JSON spelling gives JSON values:
    `info["modifiedTime"]` is an ISO 8601 string where `info.modified_time` is a datetime.
    """

    __slots__ = ("_config", "_metadata", "_state")

    _fields = (
        "session_id",
        "status",
        "model",
        "user",
        "title",
        "summary",
        "config",
        "metadata",
        "state",
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
        "epoch",
        "etag",
        "state_etag",
    )
    _identity = ("session_id", "status", "last_seq")

    def __init__(self, pb: session_pb2.Session) -> None:
        super().__init__(pb)
        self._config: dict[str, Any] | None = None
        self._metadata: dict[str, Any] | None = None
        self._state: dict[str, Any] | None = None

    @property
    def session_id(self) -> str:
        """The session's id, unique in its project."""
        return self._pb.session_id

    @property
    def status(self) -> str:
        """The status: "active" (accepts appends) or "destroyed" (does not, until it is resumed)."""
        return SESSION_STATUS_NAMES.get(self._pb.status, "unknown")

    @property
    def model(self) -> str:
        """Name of the model that answers in the session. Empty = none chosen."""
        return self._pb.model

    @property
    def user(self) -> str:
        """The user that the session belongs to. Empty = none."""
        return self._pb.user

    @property
    def title(self) -> str:
        """A title for people to read. Empty = none."""
        return self._pb.title

    @property
    def summary(self) -> str:
        """The title, or else the first words of the first user message. Empty = neither exists."""
        return self._pb.summary

    @property
    def config(self) -> dict[str, Any]:
        """The session's settings, as a JSON object; model_options keeps the order of its keys."""
        if self._config is None:
            self._config = with_dict(from_struct(self._pb.config))
        return self._config

    @property
    def metadata(self) -> dict[str, Any]:
        """The caller's labels, as a JSON object."""
        if self._metadata is None:
            self._metadata = from_struct(self._pb.metadata)
        return self._metadata

    @property
    def state(self) -> dict[str, Any] | None:
        """The session's state, a JSON object. None = listed without `with_state`."""
        if self._state is None and self._pb.HasField("state_json"):
            self._state = json.loads(self._pb.state_json)
        return self._state

    @property
    def last_seq(self) -> int:
        """The seq of the newest message. 0 = no message yet."""
        return self._pb.last_seq

    @property
    def message_count(self) -> int:
        """Number of messages in the session."""
        return self._pb.message_count

    @property
    def content_bytes(self) -> int:
        """Size of the messages' contents, in bytes."""
        return self._pb.content_bytes

    @property
    def token_count(self) -> int:
        """Number of tokens of the messages, in the encoding that `get_token_counts` names."""
        return self._pb.token_count

    @property
    def estimated_token_count(self) -> int:
        """The part of token_count that is an estimate."""
        return self._pb.estimated_token_count

    @property
    def origin(self) -> "SessionOrigin | None":
        """The session that this one was copied from. None = it is not a copy."""
        origin = self._pb.origin
        return SessionOrigin(origin.session_id, origin.seq) if self._pb.HasField("origin") else None

    @property
    def created_at(self) -> datetime:
        """Time of creation, in UTC."""
        return from_timestamp(self._pb.create_time)

    @property
    def active_at(self) -> datetime:
        """Time of the last append, creation, resume, destroy or update, in UTC."""
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
        """How long the session lives without activity. None = it never expires."""
        return from_duration(self._pb.idle_ttl) if self._pb.HasField("idle_ttl") else None

    @property
    def never_expires(self) -> bool:
        """Whether the session is kept until it is deleted."""
        return not self._pb.HasField("idle_ttl")

    @property
    def expires_at(self) -> datetime | None:
        """Time of expiry without further activity, in UTC. None = never."""
        return from_timestamp(self._pb.expire_time) if self._pb.HasField("expire_time") else None

    @property
    def epoch(self) -> int:
        """How many rewinds have removed messages. Within an epoch, a seq names only one message."""
        return self._pb.epoch

    @property
    def etag(self) -> str:
        """An opaque version that changes with everything but the messages, state and times."""
        return self._pb.etag

    @property
    def state_etag(self) -> str:
        """An opaque version of the state. Empty = listed without `with_state`."""
        return self._pb.state_etag


@dataclass(frozen=True, slots=True)
class StoredRange:
    """The seqs of stored messages: first_seq to last_seq, without gaps. Iterating yields them."""

    first_seq: int
    """The seq of the first message. 0 = all messages were skipped."""
    last_seq: int
    """The seq of the last message; if all messages were skipped, the session's last_seq."""
    create_time: datetime | None
    """Time of storage by the database's clock, in UTC. None = all messages were skipped."""
    skipped: int = 0
    """Number of messages that were left out because the session had their message_ids."""
    epoch: int = 0
    """The session's epoch, to which the seqs belong."""

    @property
    def _seqs(self) -> range:
        return range(self.first_seq, self.last_seq + 1) if self.first_seq else range(0)

    def __iter__(self) -> Iterator[int]:
        return iter(self._seqs)

    def __len__(self) -> int:
        return len(self._seqs)

    def __contains__(self, seq: object) -> bool:
        return seq in self._seqs


@dataclass(frozen=True, slots=True)
class RewindResult:
    """The result of a rewind."""

    last_seq: int
    """The session's last_seq, including the appended messages."""
    epoch: int
    """The session's epoch. A rewind that removed no message has not changed it."""
    removed_count: int
    """Number of removed messages."""
    removed: list[Message]
    """The newest removed messages in the order of their seqs, up to the requested number."""
    first_seq: int | None
    """The seq of the first appended message. None = none was appended."""
    create_time: datetime | None
    """Time of storage of the appended messages, in UTC. None = none was appended."""


@dataclass(frozen=True, slots=True)
class SessionOrigin:
    """The source of a copy. It stays the same even if the source changes or is deleted."""

    session_id: str
    """The source's id at the time of the copy."""
    seq: int
    """The last seq that was copied; up to this seq, both sessions are equal. 0 = no message."""


@dataclass(frozen=True, slots=True)
class CopyResult:
    """The result of a copy."""

    old_session_id: str
    """The source's id."""
    new_session_id: str
    """The copy's id."""
    session: SessionInfo
    """The copy."""


@dataclass(frozen=True, slots=True)
class SessionCopy:
    """A copy of a session."""

    session_id: str
    """The copy's id."""
    seq: int
    """The last seq that was copied."""
    created_at: datetime
    """Time of the copy, in UTC."""


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Number of tokens of a session's messages.

    Counts text, reasoning, tool calls and tool results; not roles, images, audio or files.
    """

    total_tokens: int
    """The number of tokens, counted and estimated."""
    estimated_tokens: int
    """The part that is estimated, at 4 bytes of UTF-8 per token: messages that were stored while
    the server had no tokenizer. 0 = none."""
    encoding: str
    """The vocabulary: "o200k_base", for every model."""
    message_count: int
    """Number of messages in the session."""

    @property
    def is_estimate(self) -> bool:
        """Whether a part of total_tokens is estimated."""
        return self.estimated_tokens > 0


@dataclass(frozen=True, slots=True)
class DeletedSessions:
    """The result of a deletion by filter: what was deleted, or would be without dry_run."""

    session_count: int
    """Number of deleted sessions."""
    message_count: int
    """Number of messages in the deleted sessions. A message that copies share counts once for each
    copy."""
    locked_count: int = 0
    """Number of matching sessions that were kept, because others had locked them for about two
    seconds. A repeated call deletes them."""
    locked_session_ids: tuple[str, ...] = ()
    """The ids of the sessions that locked_count counts, at most 100."""


def deleted_sessions(response: session_service_pb2.DeleteSessionsResponse) -> DeletedSessions:
    """Return the result of a deletion by filter."""
    return DeletedSessions(
        response.session_count,
        response.message_count,
        response.locked_count,
        tuple(response.locked_session_ids),
    )
