# Generated from _async/_tasks.py by scripts/generate-sync-client. Do not edit.
"""`client.tasks`: the calls of TaskService."""

import builtins
from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from sessiond._requests import tasks as task_requests
from sessiond._requests.fields import filled, request_id_or_new
from sessiond._requests.options import TaskSettings
from sessiond._sync._connection import Calls
from sessiond._sync._lazy import Lazy
from sessiond._sync._streams import page_batches
from sessiond._types.task import Task
from sessiond.v1 import task_service_pb2 as pb


class Tasks(Calls):
    """The calls about tasks, by session id: an agent's units of work, at most 1,000 per session.

    `timeout` and `request_id` are as in `client.sessions`. In addition to the errors listed for
    each call, all calls raise SessionNotFound, and all changes raise SessionDestroyed if the
    session is destroyed.
    """

    def create(
        self,
        session_id: str,
        *,
        task_id: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
        **settings: Unpack[TaskSettings],
    ) -> Task:
        """Create a task, as the last one of the session.

        Args:
            session_id: the session.
            task_id: 1 to 128 characters, unique in the session. Default: a UUIDv7.
            request_id: makes the call safe to repeat.
            timeout: deadline over all attempts, in seconds.
            **settings: status (default: "pending"), data, message_seqs.

        Returns:
            The task.

        Raises:
            TaskAlreadyExists: if the id is taken.
            MessageNotFound: if a message of message_seqs does not exist.
            LimitExceeded: if the session has 1,000 tasks.
            RequestIdReused: if the request_id was used with other content.
        """
        request = task_requests.create_task(
            session_id, task_id=task_id, request_id=request_id, **settings
        )
        return Task(self._connection.call(lambda stubs: stubs.tasks.CreateTask, request, timeout))

    def get(self, session_id: str, task_id: str, *, timeout: float | None = None) -> Task:
        """Return one task.

        Args:
            session_id: the session.
            task_id: the task.
            timeout: deadline over all attempts, in seconds.

        Raises:
            TaskNotFound: if there is no such task.
        """
        request = filled(pb.GetTaskRequest(), session_id=session_id, task_id=task_id)
        return Task(self._connection.call(lambda stubs: stubs.tasks.GetTask, request, timeout))

    def list(
        self,
        session_id: str,
        *,
        status: str | None = None,
        page_size: int | None = None,
        timeout: float | None = None,
    ) -> Lazy[Task]:
        """List the tasks in their order, fetched page by page during the iteration.

        Args:
            session_id: the session.
            status: only tasks with this status: "pending", "running", "success" or "failed".
                Default: all.
            page_size: tasks per call, 1 to 500. Default: 50.
            timeout: deadline of each call, in seconds.

        Returns:
            A lazy list; no call is made until it is iterated over.
        """
        request = filled(
            pb.ListTasksRequest(), session_id=session_id, status=status, page_size=page_size
        )
        return Lazy(
            lambda: page_batches(
                self._connection,
                lambda stubs: stubs.tasks.ListTasks,
                request,
                timeout,
                "tasks",
                Task,
            )
        )

    def update(
        self,
        session_id: str,
        task_id: str,
        *,
        data_patch: Mapping[str, Any] | None = None,
        link: Iterable[int] = (),
        unlink: Iterable[int] = (),
        etag: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
        **settings: Unpack[TaskSettings],
    ) -> Task:
        """Change a task, all or nothing. Settings not given are not changed.

        Args:
            session_id: the session.
            task_id: the task.
            data_patch: a JSON merge patch (RFC 7396) of data: keys with a value are set, and keys
                with None are deleted. Not together with data.
            link: seqs to add to message_seqs; seqs that it has already are kept. Not together with
                message_seqs.
            unlink: seqs to remove from message_seqs, even if link adds them; other seqs are
                ignored. Not together with message_seqs.
            etag: the call fails unless this is the task's current etag. Default: no check.
            request_id: makes the call safe to repeat.
            timeout: deadline over all attempts, in seconds.
            **settings: status, data, message_seqs. data and message_seqs are replaced as a whole.

        Returns:
            The task after the change.

        Raises:
            TaskNotFound: if there is no such task.
            ETagMismatch: if the task's current etag differs.
            MessageNotFound: if a given seq has no message.
            RequestIdReused: if the request_id was used with other content.
        """
        request = task_requests.update_task(
            session_id,
            task_id,
            data_patch=data_patch,
            link=link,
            unlink=unlink,
            etag=etag,
            request_id=request_id,
            **settings,
        )
        return Task(self._connection.call(lambda stubs: stubs.tasks.UpdateTask, request, timeout))

    def reorder(
        self, session_id: str, task_ids: Iterable[str], *, timeout: float | None = None
    ) -> builtins.list[str]:
        """Move tasks to the front of the order.

        Args:
            session_id: the session.
            task_ids: the tasks to put first: one or more different ones. The other tasks follow in
                their current order.
            timeout: deadline over all attempts, in seconds.

        Returns:
            The task_ids of all tasks, in the new order.

        Raises:
            TaskNotFound: if one of the tasks does not exist.
        """
        request = filled(
            pb.ReorderTasksRequest(),
            session_id=session_id,
            task_ids=task_ids,
            request_id=request_id_or_new(None),
        )
        response = self._connection.call(lambda stubs: stubs.tasks.ReorderTasks, request, timeout)
        return [*response.task_ids]

    def delete(
        self,
        session_id: str,
        task_id: str,
        *,
        allow_missing: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Delete a task. The tasks after it move up.

        Args:
            session_id: the session.
            task_id: the task.
            allow_missing: do nothing if there is no such task.
            request_id: makes the call safe to repeat.
            timeout: deadline over all attempts, in seconds.

        Raises:
            TaskNotFound: if there is no such task, unless allow_missing is set.
            RequestIdReused: if the request_id was used with other content.
        """
        request = filled(
            pb.DeleteTaskRequest(),
            session_id=session_id,
            task_id=task_id,
            allow_missing=allow_missing,
            request_id=request_id_or_new(request_id),
        )
        self._connection.call(lambda stubs: stubs.tasks.DeleteTask, request, timeout)


class SessionTasks:
    """`session.tasks`: the calls of `client.tasks` for one session."""

    def __init__(self, tasks: Tasks, session_id: str) -> None:
        self._tasks = tasks
        self._session_id = session_id

    def create(
        self,
        *,
        task_id: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
        **settings: Unpack[TaskSettings],
    ) -> Task:
        """Create a task, as the last one of the session; see `client.tasks.create`."""
        return self._tasks.create(
            self._session_id, task_id=task_id, request_id=request_id, timeout=timeout, **settings
        )

    def get(self, task_id: str, *, timeout: float | None = None) -> Task:
        """Return one task; see `client.tasks.get`."""
        return self._tasks.get(self._session_id, task_id, timeout=timeout)

    def list(
        self,
        *,
        status: str | None = None,
        page_size: int | None = None,
        timeout: float | None = None,
    ) -> Lazy[Task]:
        """List the tasks in their order; see `client.tasks.list`."""
        return self._tasks.list(
            self._session_id, status=status, page_size=page_size, timeout=timeout
        )

    def update(
        self,
        task_id: str,
        *,
        data_patch: Mapping[str, Any] | None = None,
        link: Iterable[int] = (),
        unlink: Iterable[int] = (),
        etag: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
        **settings: Unpack[TaskSettings],
    ) -> Task:
        """Change a task, all or nothing; see `client.tasks.update`."""
        return self._tasks.update(
            self._session_id,
            task_id,
            data_patch=data_patch,
            link=link,
            unlink=unlink,
            etag=etag,
            request_id=request_id,
            timeout=timeout,
            **settings,
        )

    def reorder(
        self, task_ids: Iterable[str], *, timeout: float | None = None
    ) -> builtins.list[str]:
        """Move tasks to the front of the order; see `client.tasks.reorder`."""
        return self._tasks.reorder(self._session_id, task_ids, timeout=timeout)

    def delete(
        self,
        task_id: str,
        *,
        allow_missing: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Delete a task; see `client.tasks.delete`."""
        self._tasks.delete(
            self._session_id,
            task_id,
            allow_missing=allow_missing,
            request_id=request_id,
            timeout=timeout,
        )
