# Generated from _async/_admin.py by scripts/generate-sync-client. Do not edit.
"""`client.admin`: projects and API keys."""

from collections.abc import Generator

from sessiond._sync._connection import Connection
from sessiond._sync._lazy import Lazy
from sessiond._types.admin import ApiKey, Project, api_key_of, project_of
from sessiond.v1 import admin_service_pb2 as pb


class Admin:
    """The calls of AdminService. Where the server asks for API keys, they need an admin key, and raise AdminKeyRequired otherwise.

    create_project and create_api_key are not tried again by themselves: they carry no request_id.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create_project(self, name: str, *, timeout: float | None = None) -> Project:
        """Make a project.

        Args:
            name: 1 to 64 characters of a-z, 0-9, "-" and "_", beginning with a letter or digit. Unique.
        Raises: ProjectAlreadyExists, InvalidField.
        """
        request = pb.CreateProjectRequest(project=pb.Project(name=name))
        stubs = self._connection.stubs
        return project_of(
            self._connection.call(stubs.admin.CreateProject, request, timeout, is_repeatable=False)
        )

    def list_projects(self, *, page_size: int = 0, timeout: float | None = None) -> Lazy[Project]:
        """The projects by name, fetched while they are iterated over.

        Args:
            page_size: how many a call brings, at most 500. 0 = 50.
        """
        return Lazy(lambda: self._project_batches(page_size, timeout))

    def create_api_key(
        self, project: str, *, label: str = "", is_admin: bool = False, timeout: float | None = None
    ) -> ApiKey:
        """Make an API key.

        Args:
            project: the name of the project; it must exist.
            label: what the key is for. At most 256 characters.
            is_admin: let the key manage projects and keys.
        Returns: the key with its `secret`, which nothing shows again.
        Raises: ProjectNotFound, InvalidField.
        """
        request = pb.CreateApiKeyRequest(project=project, label=label, is_admin=is_admin)
        stubs = self._connection.stubs
        response = self._connection.call(
            stubs.admin.CreateApiKey, request, timeout, is_repeatable=False
        )
        return api_key_of(response.key, response.secret)

    def list_api_keys(self, project: str, *, timeout: float | None = None) -> list[ApiKey]:
        """A project's keys, without their secrets, the newest first. Raises: ProjectNotFound."""
        request = pb.ListApiKeysRequest(project=project)
        response = self._connection.call(self._connection.stubs.admin.ListApiKeys, request, timeout)
        return [api_key_of(key) for key in response.keys]

    def revoke_api_key(self, key_id: str, *, timeout: float | None = None) -> ApiKey:
        """End a key; servers refuse it within seconds. Returns the key. Raises: ApiKeyNotFound."""
        request = pb.RevokeApiKeyRequest(key_id=key_id)
        return api_key_of(
            self._connection.call(self._connection.stubs.admin.RevokeApiKey, request, timeout)
        )

    def _project_batches(
        self, page_size: int, timeout: float | None
    ) -> Generator[list[Project], None]:
        request = pb.ListProjectsRequest(page_size=page_size)
        while True:
            page = self._connection.call(
                self._connection.stubs.admin.ListProjects, request, timeout
            )
            yield [project_of(project) for project in page.projects]
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
