"""The rules of GetProjectLimits, SetProjectLimits and GetProjectUsage."""

from dataclasses import dataclass
from uuid import UUID

from sessiond_server.core.errors import Fault, invalid
from sessiond_server.projects.service import check_project_name, project_not_found
from sessiond_server.projects.store import KeyStore
from sessiond_server.quotas.limits import LIMIT_NAMES, MAX_LIMIT, ProjectLimits
from sessiond_server.quotas.service import Quotas
from sessiond_server.quotas.store import LimitsRow, QuotaStore, Usage


@dataclass(frozen=True, slots=True)
class ProjectUsage:
    """The usage of a project, and its effective limits.

    Attributes:
        calls: calls of the last second, at this process.
        messages: messages stored in the last second, at this process.
        stored: the amounts that the database counts.
        limits: the effective limits.
    """

    calls: int
    messages: int
    stored: Usage
    limits: ProjectLimits


class LimitsOfProjects:
    """Shows and changes the limits of projects.

    Args:
        keys: finds projects.
        store: store of the limits.
        quotas: applies limits at this process.
    """

    def __init__(self, keys: KeyStore, store: QuotaStore, quotas: Quotas) -> None:
        self._keys = keys
        self._store = store
        self._quotas = quotas

    async def get(self, project: str) -> LimitsRow:
        """Return the limits that were set for a project.

        Raises:
            Fault: PROJECT_NOT_FOUND; INVALID_FIELD for a malformed name.
        """
        return await self._store.limits(await self._project_id(project))

    async def set(self, project: str, limits: ProjectLimits, etag: str) -> LimitsRow:
        """Replace the limits of a project.

        Args:
            project: name of the project.
            limits: the new limits.
            etag: the etag that the limits must have; "" for any.

        Raises:
            Fault: PROJECT_NOT_FOUND; ETAG_MISMATCH; INVALID_FIELD.
        """
        for name in LIMIT_NAMES:
            value = getattr(limits, name)
            if value is not None and not 0 <= value <= MAX_LIMIT:
                raise invalid(
                    f"limits.{name}", f"is {value}; 0 (no limit) to {MAX_LIMIT} are allowed"
                )
        project_id = await self._project_id(project)
        row = await self._store.set_limits(project_id, limits, etag)
        if row is None:
            current = (await self._store.limits(project_id)).etag
            raise Fault(
                "ETAG_MISMATCH",
                f"the limits of project {project!r} were changed by another caller; read them "
                "again, then decide",
                metadata={"project": project, "etag": current},
                fields={"etag": f"is not the current one, {current}"},
            )
        self._quotas.set_limits(project_id, row.limits)
        return row

    async def usage(self, project: str) -> ProjectUsage:
        """Return the usage of a project.

        Raises:
            Fault: PROJECT_NOT_FOUND; INVALID_FIELD for a malformed name.
        """
        project_id = await self._project_id(project)
        limits = self._quotas.effective((await self._store.limits(project_id)).limits)
        calls, messages = self._quotas.rates(project_id)
        return ProjectUsage(calls, messages, await self._store.usage(project_id), limits)

    async def _project_id(self, name: str) -> UUID:
        row = await self._keys.project(check_project_name(name, "project"))
        if row is None:
            raise project_not_found(name)
        return row.project_id
