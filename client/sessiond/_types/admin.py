"""Projects and API keys."""

from dataclasses import dataclass, field
from datetime import datetime

from sessiond._protocol.times import from_timestamp
from sessiond.v1 import admin_service_pb2


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
