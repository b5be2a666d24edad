"""Projects and API keys."""

import re
import secrets
from dataclasses import dataclass

from sessiond_server.core import pagination
from sessiond_server.core.errors import Fault, invalid
from sessiond_server.core.ids import DEFAULT_PROJECT, project_id_of
from sessiond_server.core.limits import MAX_NAME_CHARACTERS
from sessiond_server.core.pagination import Page, Paging
from sessiond_server.core.validation import check_text
from sessiond_server.projects.authentication import hash_secret
from sessiond_server.projects.store import KeyRow, KeyStore, ProjectRow

_PROJECT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new key, with the only copy of its secret."""

    key: KeyRow
    secret: str


class Keys:
    """The rules of projects and keys."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store

    async def create_project(self, name: str, *, get_or_create: bool = False) -> ProjectRow:
        """Create a project; with get_or_create, return the existing one if there is one.

        Raises:
            Fault: PROJECT_ALREADY_EXISTS; PROJECT_BEING_DELETED; INVALID_FIELD for a malformed
                name.
        """
        row = await self._store.create_project(
            project_id_of(check_project_name(name, "project.name")), name
        )
        if row is None and await self._store.is_being_deleted(name):
            raise Fault(
                "PROJECT_BEING_DELETED",
                f"the project {name!r} was deleted, and what it had is still being removed; try "
                "again in some minutes",
                metadata={"project": name},
                retry_after_s=60.0,
            )
        if row is None and get_or_create:
            return await self._project(name)
        if row is None:
            raise Fault(
                "PROJECT_ALREADY_EXISTS",
                f"project {name!r} already exists",
                metadata={"project": name},
            )
        return row

    async def delete_project(self, name: str, *, allow_missing: bool) -> None:
        """Delete a project: revoke its keys at once, and let the purger remove its contents.

        Raises:
            Fault: PROJECT_NOT_FOUND unless allow_missing is true; INVALID_FIELD for a malformed
                name, and for the default project.
        """
        check_project_name(name, "project")
        if name == DEFAULT_PROJECT:
            raise invalid(
                "project",
                f"is {name!r}, the project of callers without a key, which cannot be deleted; "
                "delete its sessions instead (DeleteSessions)",
            )
        if not await self._store.delete_project(name) and not allow_missing:
            raise project_not_found(name)

    async def list_projects(self, page_size: int, page_token: str) -> Page[ProjectRow]:
        """Return a page of projects by name.

        Raises:
            Fault: INVALID_FIELD; INVALID_PAGE_TOKEN.
        """
        paging = Paging(page_size, page_token, ["projects"], pagination.text)
        rows = await self._store.list_projects(
            paging.after[0] if paging.after else "", paging.size + 1
        )
        return paging.page(rows, lambda row: [row.name])

    async def create_key(
        self, project: str, *, label: str = "", is_admin: bool = False, create_project: bool = False
    ) -> NewKey:
        """Create a key of a project.

        Args:
            project: name of the project.
            label: text for people to read; "" for none.
            is_admin: whether the key may use AdminService.
            create_project: whether to create the project if it does not exist.

        Raises:
            Fault: PROJECT_NOT_FOUND; INVALID_FIELD.
        """
        check_project_name(project, "project")
        check_text("label", label, MAX_NAME_CHARACTERS)
        if create_project:
            await self.create_project(project, get_or_create=True)
        row = await self._project(project)
        key_id = secrets.token_hex(8)
        secret = f"sk-sessiond-{key_id}-{secrets.token_urlsafe(32)}"
        key = await self._store.create_key(
            key_id, row.project_id, hash_secret(secret), label, is_admin
        )
        return NewKey(key, secret)

    async def list_keys(self, project: str, page_size: int, page_token: str) -> Page[KeyRow]:
        """Return a page of a project's keys, the newest first.

        Raises:
            Fault: PROJECT_NOT_FOUND; INVALID_FIELD; INVALID_PAGE_TOKEN.
        """
        check_project_name(project, "project")
        paging = Paging(page_size, page_token, ["keys", project], pagination.time, pagination.text)
        project_id = (await self._project(project)).project_id
        after = (paging.after[0], paging.after[1]) if paging.after else None
        # One more key than requested shows whether there is a next page.
        rows = await self._store.list_keys(project_id, after, paging.size + 1)
        return paging.page(rows, lambda row: (row.created_at, row.key_id))

    async def revoke_key(self, key_id: str) -> KeyRow:
        """Revoke a key. Each server refuses it as soon as the copy in its cache expires.

        Raises:
            Fault: API_KEY_NOT_FOUND; INVALID_FIELD for a malformed key_id.
        """
        if not key_id:
            raise invalid("key_id", "is required")
        check_text("key_id", key_id, MAX_NAME_CHARACTERS)
        row = await self._store.revoke(key_id)
        if row is None:
            raise Fault(
                "API_KEY_NOT_FOUND", f"there is no key {key_id!r}", metadata={"key_id": key_id}
            )
        return row

    async def _project(self, name: str) -> ProjectRow:
        row = await self._store.project(name)
        if row is None:
            raise project_not_found(name)
        return row


def project_not_found(name: str) -> Fault:
    """Return the fault for a project that does not exist."""
    return Fault("PROJECT_NOT_FOUND", f"there is no project {name!r}", metadata={"project": name})


def check_project_name(name: str, field: str) -> str:
    """Return the name of a project.

    Args:
        name: the name.
        field: path of the name in the request, for faults.

    Raises:
        Fault: INVALID_FIELD for a malformed name.
    """
    if not _PROJECT_NAME.fullmatch(name):
        raise invalid(
            field,
            "must be 1 to 64 characters of a-z, 0-9, '-' and '_', the first a letter or digit",
        )
    return name
