"""Raw calls of TaskService."""

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct

from sessiond.v1.task_pb2 import (
    Task,
)
from sessiond.v1.task_service_pb2 import (
    CreateTaskRequest,
    DeleteTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    ReorderTasksRequest,
    UpdateTaskRequest,
)

from ..support.wire import Wire, WireError

Query = Callable[..., list[tuple[object, ...]]]


def struct(**values: object) -> Struct:
    made = Struct()
    made.update(values)
    return made


async def create(
    wire: Wire, task_id: str = "", *, session: str = "one", request_id: str = "", **fields: Any
) -> Task:
    task = Task(task_id=task_id, **fields)
    return await wire.tasks.CreateTask(
        CreateTaskRequest(session_id=session, task=task, request_id=request_id)
    )


async def get(wire: Wire, task_id: str, session: str = "one") -> Task:
    return await wire.tasks.GetTask(GetTaskRequest(session_id=session, task_id=task_id))


async def update(wire: Wire, task: Task, *paths: str, session: str = "one", **fields: Any) -> Task:
    request = UpdateTaskRequest(session_id=session, task=task, **fields)
    if paths:
        request.update_mask.CopyFrom(FieldMask(paths=paths))
    return await wire.tasks.UpdateTask(request)


async def reorder(wire: Wire, *task_ids: str, session: str = "one") -> list[str]:
    return [
        *(
            await wire.tasks.ReorderTasks(
                ReorderTasksRequest(session_id=session, task_ids=task_ids)
            )
        ).task_ids
    ]


async def delete(wire: Wire, task_id: str, *, session: str = "one", **fields: Any) -> None:
    await wire.tasks.DeleteTask(DeleteTaskRequest(session_id=session, task_id=task_id, **fields))


async def pages(wire: Wire, *, session: str = "one", **fields: Any) -> list[list[Task]]:
    request = ListTasksRequest(session_id=session, **fields)
    found = []
    while True:
        page = await wire.tasks.ListTasks(request)
        found.append([*page.tasks])
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def listed(wire: Wire, **fields: Any) -> list[Task]:
    return [task for page in await pages(wire, **fields) for task in page]


async def ids(wire: Wire, **fields: Any) -> list[str]:
    return [task.task_id for task in await listed(wire, **fields)]


def invalid_field(error: WireError) -> str:
    """Return the field of an INVALID_FIELD error."""
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    [field] = error.fields
    return field


def fill(query: Query, count: int) -> None:
    """Give every session `count` tasks."""
    query(
        "INSERT INTO tasks (key, log, task_id, position, status, created_at, updated_at) "
        "SELECT key, log, 'f' || n, n, 1, now(), now() FROM sessions, generate_series(1, %s) n",
        [count],
    )
