"""`client.admin`: projects, their limits, and API keys."""

from sessiond._async._connection import AsyncCalls
from sessiond._async._lazy import AsyncLazy
from sessiond._async._streams import page_batches
from sessiond._requests.fields import filled
from sessiond._types.admin import (
    ApiKey,
    Project,
    ProjectLimits,
    ProjectUsage,
    api_key_of,
    limits_of,
    project_of,
    usage_of,
)
from sessiond.errors import invalid_field
from sessiond.v1 import admin_service_pb2 as pb
from sessiond.v1 import limits_pb2


class AsyncAdmin(AsyncCalls):
    """The calls about projects, their limits, and API keys.

    If the server requires API keys, these calls need an admin key; without one they raise
    AdminKeyRequired. create_api_key is not retried, and neither is create_project without
    get_or_create, because their requests have no request_id.
    """

    async def create_project(
        self, name: str, *, get_or_create: bool = False, timeout: float | None = None
    ) -> Project:
        """Create a project.

        Args:
            name: 1 to 64 characters of a-z, 0-9, "-" and "_", beginning with a letter or a digit.
                Must be unique.
            get_or_create: return the existing project if there is one of this name.
            timeout: deadline of the call, in seconds.

        Returns:
            The project.

        Raises:
            ProjectAlreadyExists: if the name is taken, unless get_or_create is True.
            ProjectBeingDeleted: if a project of this name was deleted, and is still being removed.
        """
        request = filled(pb.CreateProjectRequest(), get_or_create=get_or_create)
        filled(request.project, name=name)
        return project_of(
            await self._connection.call(
                lambda stubs: stubs.admin.CreateProject,
                request,
                timeout,
                is_repeatable=get_or_create,
            )
        )

    def list_projects(
        self, *, page_size: int = 0, timeout: float | None = None
    ) -> AsyncLazy[Project]:
        """List the projects by name, fetched page by page during the iteration.

        Args:
            page_size: projects per call, at most 500. 0 = 50.
            timeout: deadline of each call, in seconds.

        Returns:
            A lazy list; no call is made until it is iterated over.
        """
        request = filled(pb.ListProjectsRequest(), page_size=page_size)
        return AsyncLazy(
            lambda: page_batches(
                self._connection,
                lambda stubs: stubs.admin.ListProjects,
                request,
                timeout,
                "projects",
                project_of,
            )
        )

    async def delete_project(
        self, name: str, *, allow_missing: bool = False, timeout: float | None = None
    ) -> None:
        """Delete a project with its keys, sessions, queues and assets.

        Its keys are refused within seconds. The rest is removed in the background; until that is
        done, no project of this name can be created.

        Args:
            name: name of the project. "default" cannot be deleted.
            allow_missing: succeed if there is no such project.
            timeout: deadline over all attempts, in seconds.

        Raises:
            ProjectNotFound: if there is no such project.
        """
        request = filled(pb.DeleteProjectRequest(), project=name, allow_missing=allow_missing)
        await self._connection.call(lambda stubs: stubs.admin.DeleteProject, request, timeout)

    async def create_api_key(
        self, project: str, *, label: str = "", is_admin: bool = False, timeout: float | None = None
    ) -> ApiKey:
        """Create an API key.

        Args:
            project: name of the project.
            label: a text that helps people to recognise the key, at most 256 characters.
            is_admin: let the key manage projects and keys.
            timeout: deadline of the call, in seconds.

        Returns:
            The key with its `secret`, which cannot be read again.

        Raises:
            ProjectNotFound: if there is no such project.
        """
        request = filled(pb.CreateApiKeyRequest(), project=project, label=label, is_admin=is_admin)
        response = await self._connection.call(
            lambda stubs: stubs.admin.CreateApiKey, request, timeout, is_repeatable=False
        )
        return api_key_of(response.key, response.secret)

    async def list_api_keys(self, project: str, *, timeout: float | None = None) -> list[ApiKey]:
        """Return a project's keys, the newest first, without their secrets.

        Args:
            project: name of the project.
            timeout: deadline over all attempts, in seconds.

        Raises:
            ProjectNotFound: if there is no such project.
        """
        request = filled(pb.ListApiKeysRequest(), project=project)
        keys: list[ApiKey] = []
        while True:
            response = await self._connection.call(
                lambda stubs: stubs.admin.ListApiKeys, request, timeout
            )
            keys += [api_key_of(key) for key in response.keys]
            if not response.next_page_token:
                return keys
            request.page_token = response.next_page_token

    async def revoke_api_key(self, key_id: str, *, timeout: float | None = None) -> ApiKey:
        """Revoke a key. Servers refuse it within seconds.

        Args:
            key_id: the key.
            timeout: deadline over all attempts, in seconds.

        Returns:
            The key.

        Raises:
            ApiKeyNotFound: if there is no such key.
        """
        request = filled(pb.RevokeApiKeyRequest(), key_id=key_id)
        return api_key_of(
            await self._connection.call(lambda stubs: stubs.admin.RevokeApiKey, request, timeout)
        )

    async def get_project_limits(
        self, project: str, *, timeout: float | None = None
    ) -> ProjectLimits:
        """Return the limits that were set for a project.

        Args:
            project: name of the project.
            timeout: deadline over all attempts, in seconds.

        Raises:
            ProjectNotFound: if there is no such project.
        """
        request = filled(limits_pb2.GetProjectLimitsRequest(), project=project)
        response = await self._connection.call(
            lambda stubs: stubs.admin.GetProjectLimits, request, timeout
        )
        return limits_of(response)

    async def set_project_limits(
        self,
        project: str,
        limits: ProjectLimits,
        *,
        etag: str = "",
        timeout: float | None = None,
    ) -> ProjectLimits:
        """Replace the limits of a project. Servers apply them within seconds.

        To change one limit only, change a copy of the current ones:

            limits = await client.admin.get_project_limits("acme")
            changed = dataclasses.replace(limits, max_sessions=10_000)
            await client.admin.set_project_limits("acme", changed, etag=limits.etag)

        Args:
            project: name of the project.
            limits: the new values of all limits. None = the server's default, 0 = no limit.
            etag: refuse the change unless this is the etag of the current limits. Empty = no
                check.
            timeout: deadline over all attempts, in seconds.

        Returns:
            The limits, with their new etag.

        Raises:
            ProjectNotFound: if there is no such project.
            ETagMismatch: if the limits were changed by another caller.
            InvalidField: if a limit is negative or above 2**53, or `limits` is no ProjectLimits.
        """
        if not isinstance(limits, ProjectLimits):
            raise invalid_field("limits", f"must be ProjectLimits, not {type(limits).__name__}")
        request = filled(limits_pb2.SetProjectLimitsRequest(), project=project, etag=etag)
        request.limits.SetInParent()
        filled(
            request.limits,
            calls_per_second=limits.calls_per_second,
            messages_per_second=limits.messages_per_second,
            max_sessions=limits.max_sessions,
            max_bytes=limits.max_bytes,
            max_running_turns=limits.max_running_turns,
            model_tokens_per_day=limits.model_tokens_per_day,
        )
        response = await self._connection.call(
            lambda stubs: stubs.admin.SetProjectLimits, request, timeout
        )
        return limits_of(response)

    async def get_project_usage(
        self, project: str, *, timeout: float | None = None
    ) -> ProjectUsage:
        """Return the usage of a project, and its effective limits.

        The server counts the project's sessions, which takes about a second for a million.

        Args:
            project: name of the project.
            timeout: deadline over all attempts, in seconds.

        Raises:
            ProjectNotFound: if there is no such project.
        """
        request = filled(limits_pb2.GetProjectUsageRequest(), project=project)
        response = await self._connection.call(
            lambda stubs: stubs.admin.GetProjectUsage, request, timeout
        )
        return usage_of(response)
