"""The rules of tasks."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sessiond_server.core import pagination
from sessiond_server.core.errors import (
    Fault,
    etag_mismatch,
    invalid,
    session_not_found,
)
from sessiond_server.core.ids import is_incarnation, session_key, uuid7
from sessiond_server.core.limits import MAX_JSON_BYTES, MAX_TASK_MESSAGES, MAX_TASKS
from sessiond_server.core.pagination import Page, Paging
from sessiond_server.core.validation import check_session_id, check_task_id
from sessiond_server.db.idempotency import DuplicateRequest
from sessiond_server.sessions.changes import changing, limit_exceeded, message_not_found
from sessiond_server.sessions.store.lock import Change
from sessiond_server.tasks.store import TaskRow, TaskStore

_ETAG = re.compile(r"[0-9a-f]{16}-[0-9]{1,10}")
_PURPOSE = "change its tasks"


@dataclass(frozen=True, slots=True)
class TaskChanges:
    """Changes to a task.

    Attributes:
        values: new values of status, data and message_seqs, by name.
        data_patch: an RFC 7396 merge patch for data; None for none.
        link: seqs to add to message_seqs.
        unlink: seqs to remove from message_seqs, after `link`.
    """

    values: dict[str, Any]
    data_patch: dict[str, Any] | None
    link: Sequence[int]
    unlink: Sequence[int]

    def check(self) -> None:
        """Check that the changes do not contradict each other.

        Raises:
            Fault: INVALID_FIELD.
        """
        if self.data_patch is not None and "data" in self.values:
            raise invalid("data_patch", "cannot be combined with new data")
        for field, seqs in (("link_seqs", self.link), ("unlink_seqs", self.unlink)):
            if seqs and "message_seqs" in self.values:
                raise invalid(field, "cannot be combined with new message_seqs")
        if not self.values and self.data_patch is None and not self.link and not self.unlink:
            raise invalid(
                "update_mask",
                "names no field; name one, or set data_patch, link_seqs or unlink_seqs",
            )
        if "message_seqs" in self.values:
            _check_seqs(self.values["message_seqs"], "task.message_seqs")
        # `unlink` is not checked, since seqs that are not linked are ignored.
        _check_seqs(self.link, "link_seqs")

    def new_values(self, task: TaskRow) -> dict[str, Any]:
        """Return the columns to set.

        Raises:
            Fault: INVALID_FIELD if the task would be linked to too many messages.
        """
        values = dict(self.values)
        if "message_seqs" in values:
            values["message_seqs"] = sorted(set(values["message_seqs"]))
        elif self.link or self.unlink:
            seqs = set(task.message_seqs).union(self.link).difference(self.unlink)
            if len(seqs) > MAX_TASK_MESSAGES:
                raise invalid(
                    "link_seqs",
                    f"would make message_seqs {len(seqs)} seqs; at most {MAX_TASK_MESSAGES} are "
                    "allowed",
                )
            values["message_seqs"] = sorted(seqs)
        return values


class Tasks:
    """The rules of tasks. Every method takes the caller's project.

    All methods also raise Fault SESSION_NOT_FOUND, and INVALID_FIELD for malformed ids. Methods
    that change something also raise SESSION_DESTROYED and REQUEST_ID_REUSED.
    """

    def __init__(self, store: TaskStore) -> None:
        self._store = store

    async def create(
        self,
        project_id: UUID,
        session_id: str,
        task_id: str,
        status: int,
        data: dict[str, Any],
        message_seqs: Sequence[int],
        *,
        request_id: str,
    ) -> TaskRow:
        """Append a task to the session's tasks.

        Args:
            project_id: the caller's project.
            session_id: the session.
            task_id: id of the new task; "" = generated.
            status: a TaskStatus.
            data: a JSON object.
            message_seqs: seqs of the messages that the task is linked to.
            request_id: makes the call safe to repeat; "" = none.

        Raises:
            Fault: TASK_ALREADY_EXISTS; MESSAGE_NOT_FOUND for a seq in message_seqs; LIMIT_EXCEEDED.
        """
        given_id, task_id = task_id, check_task_id(task_id or str(uuid7()), "task.task_id")
        _check_seqs(message_seqs, "task.message_seqs")
        seqs = sorted(set(message_seqs))
        try:
            async with changing(
                self._store,
                project_id,
                session_id,
                request_id,
                "create task",
                given_id,
                status,
                data,
                seqs,
                result=task_id,
                purpose=_PURPOSE,
            ) as change:
                if await self._store.find(change, task_id):
                    raise Fault(
                        "TASK_ALREADY_EXISTS",
                        f"session {session_id!r} already has a task {task_id!r}",
                        metadata={"session_id": session_id, "task_id": task_id},
                    )
                _check_messages(change, session_id, message_seqs, "task.message_seqs")
                count = await self._store.count(change)
                if count >= MAX_TASKS:
                    raise limit_exceeded("tasks", MAX_TASKS)
                return await self._store.insert(
                    change,
                    task_id=task_id,
                    position=count + 1,
                    status=status,
                    data=data,
                    message_seqs=seqs,
                )
        except DuplicateRequest as duplicate:
            return await self.get(project_id, session_id, duplicate.result)

    async def get(self, project_id: UUID, session_id: str, task_id: str) -> TaskRow:
        """Return a task.

        Raises:
            Fault: TASK_NOT_FOUND.
        """
        check_session_id(session_id)
        check_task_id(task_id)
        key = session_key(project_id, session_id)
        row = await self._store.get(key, project_id, task_id)
        if row is None:
            if not await self._store.log_of(key, project_id):
                raise session_not_found(session_id)
            raise _task_not_found(session_id, task_id)
        return row

    async def list(
        self, project_id: UUID, session_id: str, status: int, page_size: int, page_token: str
    ) -> Page[TaskRow]:
        """Return a page of tasks in order.

        Args:
            project_id: the caller's project.
            session_id: the session.
            status: TaskStatus to select; 0 for all tasks.
            page_size: see Paging.
            page_token: see Paging.

        Raises:
            Fault: INVALID_PAGE_TOKEN; SESSION_NOT_FOUND, also if the session of the previous page
                was deleted.
        """
        check_session_id(session_id)
        key = session_key(project_id, session_id)
        position_of = (_position, pagination.text, pagination.text)
        paging = Paging(page_size, page_token, ("tasks", key, status), *position_of, defaults=("",))
        position, task_id, incarnation = paging.after or (0, "", "")
        found = await self._store.list(key, project_id, status, (position, task_id), paging.size)
        log = found.rows[0].log if found.rows else await self._store.log_of(key, project_id)
        if log is None or not is_incarnation(incarnation, log):
            raise session_not_found(session_id)
        return paging.page(
            found.rows,
            lambda row: (row.position, row.task_id, row.log.hex),
            has_more=found.has_more,
        )

    async def update(
        self,
        project_id: UUID,
        session_id: str,
        task_id: str,
        changes: TaskChanges,
        *,
        etag: str,
        request_id: str,
    ) -> TaskRow:
        """Change a task.

        Args:
            project_id: the caller's project.
            session_id: the session.
            task_id: the task.
            changes: what to change.
            etag: the etag that the task must have; "" for any.
            request_id: makes the call safe to repeat; "" for none.

        Raises:
            Fault: TASK_NOT_FOUND; ETAG_MISMATCH; MESSAGE_NOT_FOUND for a seq to be linked.
        """
        check_task_id(task_id, "task.task_id")
        changes.check()
        _check_etag(etag)
        try:
            async with changing(
                self._store,
                project_id,
                session_id,
                request_id,
                "update task",
                task_id,
                changes.values,
                changes.data_patch,
                list(changes.link),
                list(changes.unlink),
                etag,
                result=task_id,
                purpose=_PURPOSE,
            ) as change:
                task = await self._store.find(change, task_id)
                if task is None:
                    raise _task_not_found(session_id, task_id)
                if etag and etag != etag_of(task):
                    raise etag_mismatch(f"task {task_id!r}", session_id, etag_of(task))
                _check_messages(
                    change, session_id, changes.values.get("message_seqs", ()), "task.message_seqs"
                )
                _check_messages(change, session_id, changes.link, "link_seqs")
                changed = await self._store.change_task(
                    change, task_id, changes.new_values(task), changes.data_patch
                )
                if changes.data_patch is not None and (size := _size(changed)) > MAX_JSON_BYTES:
                    raise invalid(
                        "data_patch",
                        f"would make data {size} bytes; at most {MAX_JSON_BYTES} are allowed",
                    )
                return changed
        except DuplicateRequest:
            return await self.get(project_id, session_id, task_id)

    async def reorder(
        self, project_id: UUID, session_id: str, task_ids: Sequence[str], request_id: str
    ) -> Sequence[str]:
        """Move tasks to the front, in the given order. The other tasks keep their order.

        Returns:
            All task_ids of the session, in the new order.

        Raises:
            Fault: TASK_NOT_FOUND.
        """
        if not task_ids:
            raise invalid("task_ids", "is empty; name at least one task")
        first: dict[str, None] = {}
        for i, task_id in enumerate(task_ids):
            check_task_id(task_id, f"task_ids[{i}]")
            if task_id in first:
                raise invalid(f"task_ids[{i}]", f"repeats {task_id!r}; name each task once")
            first[task_id] = None
        try:
            async with changing(
                self._store,
                project_id,
                session_id,
                request_id,
                "reorder tasks",
                list(task_ids),
                purpose=_PURPOSE,
            ) as change:
                present = await self._store.order(change)
                for task_id in first:
                    if task_id not in present:
                        raise _task_not_found(session_id, task_id)
                order = [*first, *(task_id for task_id in present if task_id not in first)]
                await self._store.reorder(change, order)
                return order
        except DuplicateRequest:
            # The order may have changed since the first request. A repetition does not restore it.
            async with changing(self._store, project_id, session_id, "") as change:
                return await self._store.order(change)

    async def delete(
        self,
        project_id: UUID,
        session_id: str,
        task_id: str,
        *,
        allow_missing: bool,
        request_id: str,
        etag: str = "",
    ) -> None:
        """Remove a task. The tasks after it move up.

        Raises:
            Fault: TASK_NOT_FOUND unless allow_missing is true; ETAG_MISMATCH.
        """
        check_task_id(task_id)
        _check_etag(etag)
        try:
            async with changing(
                self._store,
                project_id,
                session_id,
                request_id,
                "delete task",
                task_id,
                allow_missing,
                *([etag] if etag else []),
                purpose=_PURPOSE,
            ) as change:
                task = await self._store.find(change, task_id) if etag else None
                if task and etag != etag_of(task):
                    raise etag_mismatch(f"task {task_id!r}", session_id, etag_of(task))
                if not await self._store.delete(change, task_id) and not allow_missing:
                    raise _task_not_found(session_id, task_id)
        except DuplicateRequest:
            # If a task with this id exists again, it was created after the first request.
            return


def _check_etag(etag: str) -> None:
    if etag and not _ETAG.fullmatch(etag):
        raise invalid("etag", "is not an etag of a task")


def etag_of(task: TaskRow) -> str:
    """Return the etag of a task.

    The etag contains the log and the create time, so that a re-created task has other etags.
    """
    made = hashlib.blake2b(
        f"{task.log} {task.created_at.timestamp()} {task.task_id}".encode(), digest_size=8
    )
    return f"{made.hexdigest()}-{task.revision}"


def _check_seqs(seqs: Sequence[int], field: str) -> None:
    for i, seq in enumerate(seqs):
        if seq < 1:
            raise invalid(f"{field}[{i}]", f"is {seq}; seqs begin with 1")
    if len(seqs) > MAX_TASK_MESSAGES and (count := len(set(seqs))) > MAX_TASK_MESSAGES:
        raise invalid(field, f"has {count} seqs; at most {MAX_TASK_MESSAGES} are allowed")


def _check_messages(change: Change, session_id: str, seqs: Sequence[int], field: str) -> None:
    for i, seq in enumerate(seqs):
        if seq > change.last_seq:
            raise message_not_found(change, session_id, seq, f"{field}[{i}]")


def _size(task: TaskRow) -> int:
    return len(json.dumps(task.data, ensure_ascii=False, separators=(",", ":")).encode())


def _task_not_found(session_id: str, task_id: str) -> Fault:
    return Fault(
        "TASK_NOT_FOUND",
        f"session {session_id!r} has no task {task_id!r}",
        metadata={"session_id": session_id, "task_id": task_id},
    )


def _position(value: Any) -> int:
    """Parse the position of a task in a page token."""
    if not 0 < pagination.int4(value) <= MAX_TASKS:
        raise ValueError(value)
    return int(value)
