"""Requests about tasks."""

from collections.abc import Iterable, Mapping
from typing import Any

from sessiond._protocol.names import TASK_STATUSES, number_of
from sessiond._requests.fields import filled, put_items, put_struct, request_id_or_new
from sessiond.errors import invalid_field
from sessiond.v1.task_service_pb2 import (
    CreateTaskRequest,
    DeleteTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    ReorderTasksRequest,
    UpdateTaskRequest,
)


def create_task(
    session_id: str,
    *,
    task_id: str | None,
    status: str,
    data: Mapping[str, Any] | None,
    message_seqs: Iterable[int],
    request_id: str | None,
) -> CreateTaskRequest:
    # As for sessions: an empty id is more likely a variable that was not set.
    if task_id == "":
        raise invalid_field("task_id", "is empty; leave it out to have one made")
    request = filled(
        CreateTaskRequest(), session_id=session_id, request_id=request_id_or_new(request_id)
    )
    filled(request.task, task_id=task_id, status=number_of(TASK_STATUSES, status, "status"))
    put_struct(request.task, "data", data)
    put_items(request.task.message_seqs, message_seqs, "message_seqs")
    return request


def get_task(session_id: str, task_id: str) -> GetTaskRequest:
    return filled(GetTaskRequest(), session_id=session_id, task_id=task_id)


def list_tasks(session_id: str, *, status: str | None, page_size: int | None) -> ListTasksRequest:
    number = None if status is None else number_of(TASK_STATUSES, status, "status")
    return filled(ListTasksRequest(), session_id=session_id, status=number, page_size=page_size)


def update_task(
    session_id: str,
    task_id: str,
    *,
    status: str | None,
    data: Mapping[str, Any] | None,
    data_patch: Mapping[str, Any] | None,
    message_seqs: Iterable[int] | None,
    link: Iterable[int],
    unlink: Iterable[int],
    etag: str | None,
    request_id: str | None,
) -> UpdateTaskRequest:
    request = filled(
        UpdateTaskRequest(),
        session_id=session_id,
        etag=etag,
        request_id=request_id_or_new(request_id),
    )
    filled(
        request.task,
        task_id=task_id,
        status=None if status is None else number_of(TASK_STATUSES, status, "status"),
    )
    put_struct(request.task, "data", data)
    put_struct(request, "data_patch", data_patch)
    put_items(
        request.task.message_seqs, () if message_seqs is None else message_seqs, "message_seqs"
    )
    put_items(request.link_seqs, link, "link")
    put_items(request.unlink_seqs, unlink, "unlink")
    is_given = {
        "status": status is not None,
        "data": data is not None,
        "message_seqs": message_seqs is not None,
    }
    if paths := [field for field, given in is_given.items() if given]:
        request.update_mask.paths.extend(paths)
    return request


def reorder_tasks(session_id: str, task_ids: Iterable[str]) -> ReorderTasksRequest:
    if isinstance(task_ids, str):
        raise invalid_field("task_ids", f'must be a list of ids, e.g. ["{task_ids}"]')
    request = filled(
        ReorderTasksRequest(), session_id=session_id, request_id=request_id_or_new(None)
    )
    put_items(request.task_ids, task_ids, "task_ids")
    return request


def delete_task(
    session_id: str, task_id: str, *, allow_missing: bool, request_id: str | None
) -> DeleteTaskRequest:
    request = DeleteTaskRequest()
    return filled(
        request,
        session_id=session_id,
        task_id=task_id,
        allow_missing=allow_missing,
        request_id=request_id_or_new(request_id),
    )
