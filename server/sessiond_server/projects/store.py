"""Projects and API keys."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sessiond_server.db.pool import Database, columns_of
from sessiond_server.quotas.limits import NO_LIMITS, ProjectLimits
from sessiond_server.quotas.store import LIMIT_COLUMNS, limits_of


@dataclass(frozen=True, slots=True)
class ProjectRow:
    """A row of the projects table."""

    project_id: UUID
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A row of the api_keys table, with the name and the limits of its project."""

    key_id: str
    project_id: UUID
    project: str
    secret_hash: bytes
    label: str
    is_admin: bool
    created_at: datetime
    revoked_at: datetime | None
    limits: ProjectLimits = NO_LIMITS


_LIMITS = f"SELECT {LIMIT_COLUMNS} FROM project_limits WHERE project_id = %(project_id)s"
_COLUMNS = columns_of(ProjectRow)
_CREATE_PROJECT = f"""
INSERT INTO projects (project_id, name) VALUES (%(project_id)s, %(name)s)
ON CONFLICT DO NOTHING RETURNING {_COLUMNS}"""
_PROJECT = f"SELECT {_COLUMNS} FROM projects WHERE name = %(name)s AND deleted_at IS NULL"
_BEING_DELETED = """
SELECT 1 AS found FROM projects WHERE name = %(name)s AND deleted_at IS NOT NULL"""
_DELETE_PROJECT = """
WITH deleted AS (
    UPDATE projects SET deleted_at = clock_timestamp()
    WHERE name = %(name)s AND deleted_at IS NULL RETURNING project_id
), revoked AS (
    UPDATE api_keys SET revoked_at = clock_timestamp() FROM deleted
    WHERE api_keys.project_id = deleted.project_id AND revoked_at IS NULL
)
SELECT 1 AS found FROM deleted"""
_PROJECTS = f"""
SELECT {_COLUMNS} FROM projects WHERE name > %(after)s AND deleted_at IS NULL
ORDER BY name LIMIT %(limit)s"""

_FROM_KEYS = f"""
SELECT key_id, project_id, projects.name AS project, secret_hash, label, is_admin,
    api_keys.created_at, revoked_at, {LIMIT_COLUMNS}
FROM {{}} AS api_keys JOIN projects USING (project_id)
    LEFT JOIN project_limits USING (project_id)"""
_KEYS = _FROM_KEYS.format("api_keys")
_KEY = f"{_KEYS} WHERE key_id = %(key_id)s"
_KEYS_OF_PROJECT = f"""{_KEYS}
WHERE project_id = %(project_id)s
    AND (%(before)s::timestamptz IS NULL OR api_keys.created_at < %(before)s
        OR (api_keys.created_at = %(before)s AND key_id > %(after_id)s))
ORDER BY api_keys.created_at DESC, key_id LIMIT %(limit)s"""
_CREATE_KEY = f"""
WITH created AS (
    INSERT INTO api_keys (key_id, project_id, secret_hash, label, is_admin)
    VALUES (%(key_id)s, %(project_id)s, %(secret_hash)s, %(label)s, %(is_admin)s) RETURNING *
) {_FROM_KEYS.format("created")}"""
_REVOKE = f"""
WITH revoked AS (
    UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE key_id = %(key_id)s
    RETURNING *
) {_FROM_KEYS.format("revoked")}"""


class KeyStore:
    """Projects by name, and API keys by key_id."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_project(self, project_id: UUID, name: str) -> ProjectRow | None:
        """Create a project.

        Returns:
            The project; None if the name is taken.
        """
        parameters = {"project_id": project_id, "name": name}
        rows = await self._database.rows(_CREATE_PROJECT, parameters)
        return ProjectRow(**rows[0]) if rows else None

    async def project(self, name: str) -> ProjectRow | None:
        """Return a project; None if there is none with this name."""
        rows = await self._database.rows(_PROJECT, {"name": name})
        return ProjectRow(**rows[0]) if rows else None

    async def is_being_deleted(self, name: str) -> bool:
        """Return whether a project of this name was deleted and is not removed yet."""
        return bool(await self._database.rows(_BEING_DELETED, {"name": name}))

    async def delete_project(self, name: str) -> bool:
        """Mark a project as deleted, and revoke its keys.

        Returns:
            False if there is no project of this name.
        """
        return bool(await self._database.rows(_DELETE_PROJECT, {"name": name}))

    async def list_projects(self, after: str, limit: int) -> list[ProjectRow]:
        """Return at most `limit` projects in the order of their names, starting after a name."""
        rows = await self._database.rows(_PROJECTS, {"after": after, "limit": limit})
        return [ProjectRow(**row) for row in rows]

    async def create_key(
        self, key_id: str, project_id: UUID, secret_hash: bytes, label: str, is_admin: bool
    ) -> KeyRow:
        """Create a key with a new key_id."""
        parameters = {
            "key_id": key_id,
            "project_id": project_id,
            "secret_hash": secret_hash,
            "label": label,
            "is_admin": is_admin,
        }
        [row] = await self._database.rows(_CREATE_KEY, parameters)
        return _key_row(row)

    async def key(self, key_id: str) -> KeyRow | None:
        """Return a key; None if there is none with this id."""
        rows = await self._database.rows(_KEY, {"key_id": key_id})
        return _key_row(rows[0]) if rows else None

    async def limits(self, project_id: UUID) -> ProjectLimits:
        """Return the limits that were set for a project."""
        rows = await self._database.rows(_LIMITS, {"project_id": project_id})
        return limits_of(rows[0]) if rows else NO_LIMITS

    async def list_keys(
        self, project_id: UUID, after: tuple[datetime, str] | None, limit: int
    ) -> list[KeyRow]:
        """Return at most `limit` keys of a project, the newest first.

        Args:
            project_id: the project.
            after: creation time and id of the last key of the previous page; None for the first.
            limit: maximum number of keys.
        """
        before, after_id = after or (None, "")
        parameters = {
            "project_id": project_id,
            "before": before,
            "after_id": after_id,
            "limit": limit,
        }
        rows = await self._database.rows(_KEYS_OF_PROJECT, parameters)
        return [_key_row(row) for row in rows]

    async def revoke(self, key_id: str) -> KeyRow | None:
        """Revoke a key. If it is already revoked, it keeps the time of the first revocation.

        Returns:
            The key; None if there is none with this id.
        """
        rows = await self._database.rows(_REVOKE, {"key_id": key_id})
        return _key_row(rows[0]) if rows else None


def _key_row(row: dict[str, Any]) -> KeyRow:
    limits = limits_of(row)
    return KeyRow(**row, limits=limits)
