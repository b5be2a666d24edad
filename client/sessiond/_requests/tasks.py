"""Requests about tasks. All raise InvalidField for a value that cannot be sent."""

from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from sessiond._requests.fields import (
    check_keywords,
    filled,
    put_items,
    put_mask,
    request_id_or_new,
)
from sessiond._requests.options import TaskSettings
from sessiond.errors import invalid_field
from sessiond.v1.task_service_pb2 import CreateTaskRequest, UpdateTaskRequest


def create_task(
    session_id: str,
    *,
    task_id: str | None,
    request_id: str | None,
    **settings: Unpack[TaskSettings],
) -> CreateTaskRequest:
    check_keywords(settings, TaskSettings.__optional_keys__)
    # As for sessions: an empty id is more likely an unset variable.
    if task_id == "":
        raise invalid_field("task_id", "is empty; leave it out to have one generated")
    request = filled(
        CreateTaskRequest(), session_id=session_id, request_id=request_id_or_new(request_id)
    )
    filled(request.task, task_id=task_id, **{"status": "pending", **settings})
    return request


def update_task(
    session_id: str,
    task_id: str,
    *,
    data_patch: Mapping[str, Any] | None,
    link: Iterable[int],
    unlink: Iterable[int],
    etag: str | None,
    request_id: str | None,
    **settings: Unpack[TaskSettings],
) -> UpdateTaskRequest:
    check_keywords(settings, TaskSettings.__optional_keys__)
    request = filled(
        UpdateTaskRequest(),
        session_id=session_id,
        data_patch=data_patch,
        etag=etag,
        request_id=request_id_or_new(request_id),
    )
    filled(request.task, task_id=task_id, **settings)
    put_items(request.link_seqs, link, "link")
    put_items(request.unlink_seqs, unlink, "unlink")
    put_mask(request, settings)
    return request
