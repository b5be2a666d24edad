"""What the server says about projects and API keys."""

from dataclasses import dataclass, field
from datetime import datetime

from sessiond._protocol.times import from_timestamp
from sessiond.v1 import admin_service_pb2


@dataclass(frozen=True, slots=True)
class Project:
    """A tenant: sessions, users and keys belong to exactly one."""

    name: str
    """Its name. Unique."""
    created_at: datetime
    """When it was made, in UTC."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key. Only the answer of create_api_key has its secret."""

    key_id: str
    """Names the key; it may be shown and logged."""
    project: str
    """The name of its project."""
    label: str
    """What it is for. Empty = none."""
    is_admin: bool
    """Whether it may manage projects and keys."""
    created_at: datetime
    """When it was made, in UTC."""
    revoked_at: datetime | None
    """When it was revoked, in UTC. None = it is valid."""
    secret: str | None = field(default=None, repr=False)
    """The whole key, to be given as `api_key`. None = not known: the server keeps only a hash of it."""


def project_of(pb: admin_service_pb2.Project) -> Project:
    return Project(pb.name, from_timestamp(pb.create_time))


def api_key_of(pb: admin_service_pb2.ApiKey, secret: str | None = None) -> ApiKey:
    revoked_at = from_timestamp(pb.revoke_time) if pb.HasField("revoke_time") else None
    return ApiKey(
        pb.key_id,
        pb.project,
        pb.label,
        pb.is_admin,
        from_timestamp(pb.create_time),
        revoked_at,
        secret,
    )
