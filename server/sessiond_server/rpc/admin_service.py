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
from sessiond_server.projects.authentication import Caller
from sessiond_server.projects.service import Keys
from sessiond_server.projects.store import KeyRow, ProjectRow

# Methods are named as in the protos.
# ruff: noqa: N802


class AdminServicer:
    """The methods of AdminService; see handlers.Servicer."""

    needs_admin = True

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

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
