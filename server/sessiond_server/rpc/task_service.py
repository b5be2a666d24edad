"""TaskService: converts requests, calls the features, converts responses."""

from collections.abc import Collection
from typing import Any

from sessiond.v1.task_pb2 import TASK_STATUS_UNSPECIFIED, Task, TaskStatus
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
from sessiond_server.core import states
from sessiond_server.core.structs import to_dict, to_struct
from sessiond_server.projects.authentication import Caller
from sessiond_server.rpc.conversions import task_status, updated_paths
from sessiond_server.tasks.service import TaskChanges, Tasks, etag_of
from sessiond_server.tasks.store import TaskRow

# Methods are named as in the protos.
# ruff: noqa: N802


class TaskServicer:
    """The methods of TaskService; see handlers.Servicer."""

    needs_admin = False

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    async def CreateTask(self, request: CreateTaskRequest, caller: Caller) -> Task:
        task = request.task
        row = await self._tasks.create(
            caller.project_id,
            request.session_id,
            task.task_id,
            **_values(task, ("status", "data", "message_seqs")),
            request_id=request.request_id,
        )
        return task_message(row)

    async def GetTask(self, request: GetTaskRequest, caller: Caller) -> Task:
        return task_message(
            await self._tasks.get(caller.project_id, request.session_id, request.task_id)
        )

    async def ListTasks(self, request: ListTasksRequest, caller: Caller) -> ListTasksResponse:
        status = task_status(request.status, "status")
        page = await self._tasks.list(
            caller.project_id, request.session_id, status, request.page_size, request.page_token
        )
        return ListTasksResponse(
            tasks=[task_message(row) for row in page.items], next_page_token=page.next_page_token
        )

    async def UpdateTask(self, request: UpdateTaskRequest, caller: Caller) -> Task:
        row = await self._tasks.update(
            caller.project_id,
            request.session_id,
            request.task.task_id,
            _changes(request),
            etag=request.etag,
            request_id=request.request_id,
        )
        return task_message(row)

    async def ReorderTasks(
        self, request: ReorderTasksRequest, caller: Caller
    ) -> ReorderTasksResponse:
        order = await self._tasks.reorder(
            caller.project_id, request.session_id, request.task_ids, request.request_id
        )
        return ReorderTasksResponse(task_ids=order)

    async def DeleteTask(self, request: DeleteTaskRequest, caller: Caller) -> DeleteTaskResponse:
        await self._tasks.delete(
            caller.project_id,
            request.session_id,
            request.task_id,
            allow_missing=request.allow_missing,
            request_id=request.request_id,
            etag=request.etag,
        )
        return DeleteTaskResponse()


def task_message(row: TaskRow) -> Task:
    """Convert a task's row."""
    message = Task(
        task_id=row.task_id,
        position=row.position,
        status=TaskStatus.ValueType(row.status),
        message_seqs=row.message_seqs,
        etag=etag_of(row),
    )
    message.create_time.FromDatetime(row.created_at)
    message.update_time.FromDatetime(row.updated_at)
    if row.data:
        to_struct(row.data, message.data)
    return message


def _changes(request: UpdateTaskRequest) -> TaskChanges:
    """Convert an update.

    Raises:
        Fault: INVALID_FIELD if a field of the task is invalid or the mask contains an unknown path.
    """
    task = request.task
    is_set = {
        "status": task.status != TASK_STATUS_UNSPECIFIED,
        "data": task.HasField("data"),
        "message_seqs": bool(task.message_seqs),
    }
    return TaskChanges(
        _values(task, updated_paths(request, is_set)),
        to_dict(request.data_patch, "data_patch") if request.HasField("data_patch") else None,
        list(request.link_seqs),
        list(request.unlink_seqs),
    )


def _values(task: Task, paths: Collection[str]) -> dict[str, Any]:
    """Return the values of fields. The default is empty, or PENDING for the status.

    Raises:
        Fault: INVALID_FIELD if a field is invalid.
    """
    values: dict[str, Any] = {}
    if "status" in paths:
        values["status"] = task_status(task.status, "task.status") or states.TaskStatus.PENDING
    if "data" in paths:
        values["data"] = to_dict(task.data, "task.data")
    if "message_seqs" in paths:
        values["message_seqs"] = list(task.message_seqs)
    return values
