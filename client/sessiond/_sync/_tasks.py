# Generated from _async/_tasks.py by scripts/generate-sync-client. Do not edit.
"""`client.tasks`: the calls of TaskService."""

import builtins
from collections.abc import Generator, Iterable, Mapping
from typing import Any, Unpack

from sessiond._requests import tasks as task_requests
from sessiond._requests.options import TaskChanges, TaskSettings
from sessiond._sync._connection import Connection
from sessiond._sync._lazy import Lazy
from sessiond._types.task import Task
from sessiond.v1.task_service_pb2 import ListTasksRequest


class Tasks:
    """The calls of TaskService, by session id: the units of work that an agent tracks in a session, at most 1,000 of them.

    `timeout` and `request_id` are as in `client.sessions`. All raise SessionNotFound besides what is named at each call; those that change
    something raise SessionDestroyed where the session is destroyed.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(
        self,
        session_id: str,
        *,
        task_id: str | None = None,
        status: str = "pending",
        data: Mapping[str, Any] | None = None,
        message_seqs: Iterable[int] = (),
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Task:
        """Add a task, as the session's last one.

        Args:
            task_id: 1 to 128 characters, unique in the session. Default: the server makes a UUIDv7.
            status: "pending", "running", "success" or "failed".
            data: what to keep about the task: a JSON object of at most 64 KiB, without integers beyond ±2^53.
            message_seqs: the seqs of the messages that belong to it, at most 10,000, e.g. what store_messages returned. They must exist.
        Returns: the task.
        Raises: TaskAlreadyExists, MessageNotFound, LimitExceeded, RequestIdReused.
        """
        request = task_requests.create_task(
            session_id,
            task_id=task_id,
            status=status,
            data=data,
            message_seqs=message_seqs,
            request_id=request_id,
        )
        return Task(
            self._connection.call(self._connection.stubs.tasks.CreateTask, request, timeout)
        )

    def get(self, session_id: str, task_id: str, *, timeout: float | None = None) -> Task:
        """One task. Raises: TaskNotFound."""
        request = task_requests.get_task(session_id, task_id)
        return Task(self._connection.call(self._connection.stubs.tasks.GetTask, request, timeout))

    def list(
        self,
        session_id: str,
        *,
        status: str | None = None,
        page_size: int | None = None,
        timeout: float | None = None,
    ) -> Lazy[Task]:
        """The session's tasks in their order, fetched page by page while they are iterated over.

        Args:
            status: tasks of this status only: "pending", "running", "success" or "failed". Default: all.
            page_size: how many tasks a call brings at the most, 1 to 500. Default: 50.
            timeout: of each call.
        Returns: a lazy listing; nothing is called before it is iterated over.
        """
        request = task_requests.list_tasks(session_id, status=status, page_size=page_size)
        return Lazy(lambda: _batches(self._connection, request, timeout))

    def update(
        self,
        session_id: str,
        task_id: str,
        *,
        status: str | None = None,
        data: Mapping[str, Any] | None = None,
        data_patch: Mapping[str, Any] | None = None,
        message_seqs: Iterable[int] | None = None,
        link: Iterable[int] = (),
        unlink: Iterable[int] = (),
        etag: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Task:
        """Change a task, all or none. What is None stays as it is.

        Args:
            status: "pending", "running", "success" or "failed".
            data: replaces the whole of it.
            data_patch: a JSON merge patch (RFC 7396) of data: given keys are set, None deletes a key. Not together with data.
            message_seqs: replaces all of them.
            link: seqs to add to message_seqs; those that are there already stay. Not together with message_seqs.
            unlink: seqs to take out of message_seqs, those of `link` included; those that are not there are passed over. Likewise.
            etag: must be the task's current one. Default: no check.
        Returns: the task as it is now.
        Raises: TaskNotFound, ETagMismatch, MessageNotFound, RequestIdReused.
        """
        request = task_requests.update_task(
            session_id,
            task_id,
            status=status,
            data=data,
            data_patch=data_patch,
            message_seqs=message_seqs,
            link=link,
            unlink=unlink,
            etag=etag,
            request_id=request_id,
        )
        return Task(
            self._connection.call(self._connection.stubs.tasks.UpdateTask, request, timeout)
        )

    def reorder(
        self, session_id: str, task_ids: Iterable[str], *, timeout: float | None = None
    ) -> builtins.list[str]:
        """Put tasks into an order.

        Args:
            task_ids: those that come first, each once, at least one. The others follow in the order that they have.
        Returns: the task_ids of all tasks of the session, in their order.
        Raises: TaskNotFound.
        """
        request = task_requests.reorder_tasks(session_id, task_ids)
        response = self._connection.call(
            self._connection.stubs.tasks.ReorderTasks, request, timeout
        )
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
        """Remove a task; those after it move up.

        Args:
            allow_missing: do nothing where there is no such task.
        Raises: TaskNotFound, RequestIdReused.
        """
        request = task_requests.delete_task(
            session_id, task_id, allow_missing=allow_missing, request_id=request_id
        )
        self._connection.call(self._connection.stubs.tasks.DeleteTask, request, timeout)


class SessionTasks:
    """`session.tasks`: the calls of `client.tasks` for one session."""

    def __init__(self, tasks: Tasks, session_id: str) -> None:
        self._tasks = tasks
        self._session_id = session_id

    def create(self, *, task_id: str | None = None, **settings: Unpack[TaskSettings]) -> Task:
        """Add a task, as the last one: `client.tasks.create` in this session. Returns the task."""
        return self._tasks.create(self._session_id, task_id=task_id, **settings)

    def get(self, task_id: str, *, timeout: float | None = None) -> Task:
        """One task. Raises: SessionNotFound, TaskNotFound."""
        return self._tasks.get(self._session_id, task_id, timeout=timeout)

    def list(
        self,
        *,
        status: str | None = None,
        page_size: int | None = None,
        timeout: float | None = None,
    ) -> Lazy[Task]:
        """The tasks in their order, fetched while they are iterated over: `client.tasks.list` of this session."""
        return self._tasks.list(
            self._session_id, status=status, page_size=page_size, timeout=timeout
        )

    def update(self, task_id: str, **changes: Unpack[TaskChanges]) -> Task:
        """Change a task, all or none: `client.tasks.update` in this session. Returns the task as it is now."""
        return self._tasks.update(self._session_id, task_id, **changes)

    def reorder(
        self, task_ids: Iterable[str], *, timeout: float | None = None
    ) -> builtins.list[str]:
        """Put tasks into an order: `client.tasks.reorder` in this session. Returns all task_ids, in their order."""
        return self._tasks.reorder(self._session_id, task_ids, timeout=timeout)

    def delete(
        self,
        task_id: str,
        *,
        allow_missing: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Remove a task; those after it move up. Raises: SessionNotFound, SessionDestroyed, TaskNotFound (unless allow_missing)."""
        self._tasks.delete(
            self._session_id,
            task_id,
            allow_missing=allow_missing,
            request_id=request_id,
            timeout=timeout,
        )


def _batches(
    connection: Connection, request: ListTasksRequest, timeout: float | None
) -> Generator[list[Task], None]:
    ask = ListTasksRequest()
    ask.CopyFrom(request)
    while True:
        page = connection.call(connection.stubs.tasks.ListTasks, ask, timeout)
        if page.tasks:
            yield [Task(task) for task in page.tasks]
        if not page.next_page_token:
            return
        ask.page_token = page.next_page_token
