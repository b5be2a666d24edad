"""Projects, their limits, and API keys."""

from dataclasses import dataclass, field
from datetime import datetime

from sessiond._protocol.times import from_timestamp
from sessiond.v1 import admin_service_pb2, limits_pb2


@dataclass(frozen=True, slots=True)
class Project:
    """A tenant: each session, user and key belongs to exactly one project."""

    name: str
    """The project's name, unique on the server."""
    created_at: datetime
    """Time of creation, in UTC."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key. Only create_api_key returns its secret."""

    key_id: str
    """Identifies the key. Not secret: it may be shown and logged."""
    project: str
    """Name of the key's project."""
    label: str
    """A description for people to read. Empty = none."""
    is_admin: bool
    """Whether the key may manage projects and keys."""
    created_at: datetime
    """Time of creation, in UTC."""
    revoked_at: datetime | None
    """Time of revocation, in UTC. None = the key is valid."""
    secret: str | None = field(default=None, repr=False)
    """The whole key, to pass as `api_key`. None = unknown: the server keeps only a hash of it."""


@dataclass(frozen=True, slots=True)
class ProjectLimits:
    """The limits of a project.

    None is the server's default, which may be no limit. 0 is no limit, whatever the default is. A
    call beyond a limit raises RateLimited or QuotaExceeded, as stated for each limit.
    """

    calls_per_second: int | None = None
    """Calls per second at each server process, except those of `client.admin`. RateLimited."""
    messages_per_second: int | None = None
    """Messages stored per second at each server process. Imports wait, others get RateLimited."""
    max_sessions: int | None = None
    """Number of sessions. QuotaExceeded."""
    max_bytes: int | None = None
    """Bytes of messages and assets. A copy counts in full. QuotaExceeded."""
    max_running_turns: int | None = None
    """Number of turns that run or are queued. QuotaExceeded."""
    model_tokens_per_day: int | None = None
    """Input and output tokens of turns, per day from midnight UTC. QuotaExceeded."""
    etag: str = ""
    """Changes whenever the limits do. set_project_limits uses its argument `etag` instead."""


@dataclass(frozen=True, slots=True)
class LimitUsage:
    """How much of one limit is used."""

    used: int
    """The amount that is used."""
    limit: int | None
    """The effective limit: the project's own or the server's default. None = no limit."""


@dataclass(frozen=True, slots=True)
class ProjectUsage:
    """The usage of a project, and its effective limits."""

    calls_per_second: LimitUsage
    """Calls of the last second at the responding process; 0 if there is no limit."""
    messages_per_second: LimitUsage
    """Messages stored in the last second at the responding process; 0 if there is no limit."""
    sessions: LimitUsage
    """Number of sessions."""
    bytes: LimitUsage
    """Bytes of messages and assets."""
    running_turns: LimitUsage
    """Number of turns that run or are queued."""
    model_tokens: LimitUsage
    """Tokens of turns since midnight UTC."""
    message_count: int
    """Number of messages in all sessions. Those of a copy count again."""


def limits_of(pb: limits_pb2.ProjectLimits) -> ProjectLimits:
    return ProjectLimits(**{field.name: value for field, value in pb.ListFields()})


def usage_of(pb: limits_pb2.GetProjectUsageResponse) -> ProjectUsage:
    return ProjectUsage(
        _limit_usage_of(pb.calls_per_second),
        _limit_usage_of(pb.messages_per_second),
        _limit_usage_of(pb.sessions),
        _limit_usage_of(pb.bytes),
        _limit_usage_of(pb.running_turns),
        _limit_usage_of(pb.model_tokens),
        pb.message_count,
    )


def _limit_usage_of(pb: limits_pb2.LimitUsage) -> LimitUsage:
    return LimitUsage(pb.used, pb.limit if pb.HasField("limit") else None)


def project_of(pb: admin_service_pb2.Project) -> Project:
    return Project(pb.name, from_timestamp(pb.create_time))


def api_key_of(pb: admin_service_pb2.ApiKey, secret: str | None = None) -> ApiKey:
    return ApiKey(
        pb.key_id,
        pb.project,
        pb.label,
        pb.is_admin,
        from_timestamp(pb.create_time),
        from_timestamp(pb.revoke_time) if pb.HasField("revoke_time") else None,
        secret,
    )
