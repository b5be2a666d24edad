"""TaskService on the wire."""

from sessiond.v1.task_pb2 import Task
from sessiond.v1.task_service_pb2 import (
    CreateTaskRequest,
    DeleteTaskRequest,
    DeleteTaskResponse,
    GetTaskRequest,
    ListTasksRequest,
    ListTasksResponse,
    ReorderTasksRequest,
    ReorderTasksResponse,
    UpdateTaskRequest,
)
from sessiond_server.service.keys import Caller
from sessiond_server.service.tasks import Tasks

# Method names are those of the protos.
# ruff: noqa: N802


class TaskServicer:
    """The methods of TaskService, as calls.Servicer has them."""

    needs_admin = False

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    async def CreateTask(self, request: CreateTaskRequest, caller: Caller) -> Task:
        raise NotImplementedError

    async def GetTask(self, request: GetTaskRequest, caller: Caller) -> Task:
        raise NotImplementedError

    async def ListTasks(self, request: ListTasksRequest, caller: Caller) -> ListTasksResponse:
        raise NotImplementedError

    async def UpdateTask(self, request: UpdateTaskRequest, caller: Caller) -> Task:
        raise NotImplementedError

    async def ReorderTasks(self, request: ReorderTasksRequest, caller: Caller) -> ReorderTasksResponse:
        raise NotImplementedError

    async def DeleteTask(self, request: DeleteTaskRequest, caller: Caller) -> DeleteTaskResponse:
        raise NotImplementedError
