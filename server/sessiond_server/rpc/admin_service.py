"""AdminService: converts requests, calls the features, converts responses."""

from sessiond.v1.admin_service_pb2 import (
    ApiKey,
    CreateApiKeyRequest,
    CreateApiKeyResponse,
    CreateProjectRequest,
    DeleteProjectRequest,
    DeleteProjectResponse,
    ListApiKeysRequest,
    ListApiKeysResponse,
    ListProjectsRequest,
    ListProjectsResponse,
    Project,
    RevokeApiKeyRequest,
)
from sessiond.v1.limits_pb2 import (
    GetProjectLimitsRequest,
    GetProjectUsageRequest,
    GetProjectUsageResponse,
    LimitUsage,
    ProjectLimits,
    SetProjectLimitsRequest,
)
from sessiond_server.core.errors import invalid
from sessiond_server.projects.authentication import Caller
from sessiond_server.projects.limits import LimitsOfProjects
from sessiond_server.projects.service import Keys
from sessiond_server.projects.store import KeyRow, ProjectRow
from sessiond_server.quotas import limits as quotas
from sessiond_server.quotas.store import LimitsRow

# Methods are named as in the protos.
# ruff: noqa: N802


class AdminServicer:
    """The methods of AdminService; see handlers.Servicer."""

    needs_admin = True

    def __init__(self, keys: Keys, limits: LimitsOfProjects) -> None:
        self._keys = keys
        self._limits = limits

    async def CreateProject(self, request: CreateProjectRequest, caller: Caller) -> Project:
        return _project(
            await self._keys.create_project(
                request.project.name, get_or_create=request.get_or_create
            )
        )

    async def DeleteProject(
        self, request: DeleteProjectRequest, caller: Caller
    ) -> DeleteProjectResponse:
        await self._keys.delete_project(request.project, allow_missing=request.allow_missing)
        return DeleteProjectResponse()

    async def ListProjects(
        self, request: ListProjectsRequest, caller: Caller
    ) -> ListProjectsResponse:
        page = await self._keys.list_projects(request.page_size, request.page_token)
        return ListProjectsResponse(
            projects=[_project(row) for row in page.items], next_page_token=page.next_page_token
        )

    async def CreateApiKey(
        self, request: CreateApiKeyRequest, caller: Caller
    ) -> CreateApiKeyResponse:
        new = await self._keys.create_key(
            request.project, label=request.label, is_admin=request.is_admin
        )
        return CreateApiKeyResponse(key=_key(new.key), secret=new.secret)

    async def ListApiKeys(self, request: ListApiKeysRequest, caller: Caller) -> ListApiKeysResponse:
        page = await self._keys.list_keys(request.project, request.page_size, request.page_token)
        return ListApiKeysResponse(
            keys=[_key(row) for row in page.items], next_page_token=page.next_page_token
        )

    async def RevokeApiKey(self, request: RevokeApiKeyRequest, caller: Caller) -> ApiKey:
        return _key(await self._keys.revoke_key(request.key_id))

    async def GetProjectLimits(
        self, request: GetProjectLimitsRequest, caller: Caller
    ) -> ProjectLimits:
        return _limits(await self._limits.get(request.project))

    async def SetProjectLimits(
        self, request: SetProjectLimitsRequest, caller: Caller
    ) -> ProjectLimits:
        if not request.HasField("limits"):
            raise invalid("limits", "is required; send an empty message to restore the defaults")
        given = {
            field.name: value
            for field, value in request.limits.ListFields()
            if field.name in quotas.LIMIT_NAMES
        }
        limits = quotas.ProjectLimits(**given)
        return _limits(await self._limits.set(request.project, limits, request.etag))

    async def GetProjectUsage(
        self, request: GetProjectUsageRequest, caller: Caller
    ) -> GetProjectUsageResponse:
        usage = await self._limits.usage(request.project)
        stored, limits = usage.stored, usage.limits
        return GetProjectUsageResponse(
            calls_per_second=LimitUsage(used=usage.calls, limit=limits.calls_per_second),
            messages_per_second=LimitUsage(used=usage.messages, limit=limits.messages_per_second),
            sessions=LimitUsage(used=stored.sessions, limit=limits.max_sessions),
            bytes=LimitUsage(used=stored.bytes, limit=limits.max_bytes),
            running_turns=LimitUsage(used=stored.running_turns, limit=limits.max_running_turns),
            model_tokens=LimitUsage(used=stored.model_tokens, limit=limits.model_tokens_per_day),
            message_count=stored.messages,
        )


def _limits(row: LimitsRow) -> ProjectLimits:
    return ProjectLimits(
        **{name: getattr(row.limits, name) for name in quotas.LIMIT_NAMES}, etag=row.etag
    )


def _project(row: ProjectRow) -> Project:
    message = Project(name=row.name)
    message.create_time.FromDatetime(row.created_at)
    return message


def _key(row: KeyRow) -> ApiKey:
    message = ApiKey(key_id=row.key_id, project=row.project, label=row.label, is_admin=row.is_admin)
    message.create_time.FromDatetime(row.created_at)
    if row.revoked_at:
        message.revoke_time.FromDatetime(row.revoked_at)
    return message
