"""Projects and API keys."""

from dataclasses import dataclass, fields
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert

from sessiond_server.db.pool import Database
from sessiond_server.db.schema import api_keys, projects


@dataclass(frozen=True, slots=True)
class ProjectRow:
    """A row of the projects table."""

    project_id: UUID
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A row of the api_keys table, with the name of its project."""

    key_id: str
    project_id: UUID
    project: str
    secret_hash: bytes
    label: str
    is_admin: bool
    created_at: datetime
    revoked_at: datetime | None


_KEY = [
    projects.c.name.label("project") if f.name == "project" else api_keys.c[f.name]
    for f in fields(KeyRow)
]
_KEYS = select(*_KEY).join_from(api_keys, projects, api_keys.c.project_id == projects.c.project_id)
_PROJECT = [projects.c[f.name] for f in fields(ProjectRow)]


class KeyStore:
    """Projects and keys, by name and by key_id."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_project(self, project_id: UUID, name: str) -> ProjectRow | None:
        """None where there is one of this name."""
        statement = (
            insert(projects).values(project_id=project_id, name=name).on_conflict_do_nothing()
        )
        rows = await self._database.rows(statement.returning(*_PROJECT))
        return ProjectRow(**rows[0]) if rows else None

    async def project(self, name: str) -> ProjectRow | None:
        rows = await self._database.rows(select(*_PROJECT).where(projects.c.name == name))
        return ProjectRow(**rows[0]) if rows else None

    async def list_projects(self, after: str, limit: int) -> list[ProjectRow]:
        """By name, those above `after`."""
        statement = (
            select(*_PROJECT).where(projects.c.name > after).order_by(projects.c.name).limit(limit)
        )
        return [ProjectRow(**row) for row in await self._database.rows(statement)]

    async def create_key(
        self, key_id: str, project_id: UUID, secret_hash: bytes, label: str, is_admin: bool
    ) -> KeyRow | None:
        await self._database.rows(
            insert(api_keys).values(
                key_id=key_id,
                project_id=project_id,
                secret_hash=secret_hash,
                label=label,
                is_admin=is_admin,
            )
        )
        return await self.key(key_id)

    async def key(self, key_id: str) -> KeyRow | None:
        rows = await self._database.rows(_KEYS.where(api_keys.c.key_id == key_id))
        return KeyRow(**rows[0]) if rows else None

    async def list_keys(self, project_id: UUID) -> list[KeyRow]:
        """The newest first."""
        statement = _KEYS.where(api_keys.c.project_id == project_id).order_by(
            api_keys.c.created_at.desc(), api_keys.c.key_id
        )
        return [KeyRow(**row) for row in await self._database.rows(statement)]

    async def revoke(self, key_id: str) -> KeyRow | None:
        """Revoking twice keeps the first time. None where there is no such key."""
        await self._database.rows(
            update(api_keys)
            .where(api_keys.c.key_id == key_id)
            .values(revoked_at=func.coalesce(api_keys.c.revoked_at, func.now()))
        )
        return await self.key(key_id)
