"""The rules of tasks."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sessiond_server.core import pagination
from sessiond_server.core.errors import Fault, invalid, session_not_found
from sessiond_server.core.ids import session_key, uuid7
from sessiond_server.core.limits import MAX_JSON_BYTES, MAX_TASK_MESSAGES, MAX_TASKS
from sessiond_server.core.pagination import Page, Paging
from sessiond_server.core.states import SessionState
from sessiond_server.core.validation import check_request_id, check_session_id, check_task_id
from sessiond_server.db.idempotency import DuplicateRequest
from sessiond_server.sessions.changes import changing, limit_exceeded, message_not_found
from sessiond_server.sessions.store.lock import Change
from sessiond_server.tasks.store import TaskRow, TaskStore

# A page ends early rather than be too large for clients to receive: the protobuf of data can take several times its JSON.
MAX_PAGE_BYTES = 2 * 1024 * 1024
_ETAG = re.compile(r"[0-9a-f]{16}-[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class NewTask:
    """What a caller chooses of a new task. task_id: empty = one is made."""

    task_id: str
    status: int
    data: dict[str, Any]
    message_seqs: Sequence[int]


@dataclass(frozen=True, slots=True)
class TaskChanges:
    """What to change of a task.

    Args:
        values: new values by name: status, data, message_seqs.
        data_patch: a JSON merge patch of data, or None.
        link, unlink: seqs to add to message_seqs, and then to take out of it.
    """

    values: dict[str, Any]
    data_patch: dict[str, Any] | None
    link: Sequence[int]
    unlink: Sequence[int]

    def check(self) -> None:
        """Raises: Fault INVALID_FIELD."""
        if self.data_patch is not None and "data" in self.values:
            raise invalid("data_patch", "cannot go together with new data")
        for field, seqs in (("link_seqs", self.link), ("unlink_seqs", self.unlink)):
            if seqs and "message_seqs" in self.values:
                raise invalid(field, "cannot go together with new message_seqs")
        if not self.values and self.data_patch is None and not self.link and not self.unlink:
            raise invalid(
                "update_mask",
                "names no field, and there is no patch and no seq to link or unlink: nothing to update",
            )
        if "message_seqs" in self.values:
            _check_seqs(self.values["message_seqs"], "task.message_seqs")
        # What is to be taken out may be anything: what is not there is passed over.
        _check_seqs(self.link, "link_seqs")

    def new_values(self, task: TaskRow) -> dict[str, Any]:
        """The columns to set. Raises: Fault INVALID_FIELD."""
        values = dict(self.values)
        if "message_seqs" in values:
            values["message_seqs"] = _ascending(values["message_seqs"])
        elif self.link or self.unlink:
            seqs = set(task.message_seqs).union(self.link).difference(self.unlink)
            if len(seqs) > MAX_TASK_MESSAGES:
                raise invalid(
                    "link_seqs",
                    f"would make message_seqs {len(seqs)} seqs; at most {MAX_TASK_MESSAGES} are allowed",
                )
            values["message_seqs"] = _ascending(seqs)
        return values


class Tasks:
    """The rules of tasks. Ids are the caller's; project_id is who calls. All methods raise Fault SESSION_NOT_FOUND and INVALID_FIELD."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store

    async def create(
        self, project_id: UUID, session_id: str, new: NewTask, request_id: str
    ) -> TaskRow:
        """A new task, the last one. Raises: Fault, with the reasons that CreateTask names."""
        check_session_id(session_id)
        task_id = check_task_id(new.task_id or str(uuid7()), "task.task_id")
        _check_seqs(new.message_seqs, "task.message_seqs")
        seqs = _ascending(new.message_seqs)
        content = ("create task", new.task_id, new.status, new.data, seqs)
        try:
            async with changing(
                self._store, project_id, session_id, request_id, *content, made=task_id
            ) as change:
                _check_open(change, session_id)
                if await self._store.find(change, task_id):
                    raise Fault(
                        "TASK_ALREADY_EXISTS",
                        f"session {session_id!r} has a task {task_id!r} already",
                        metadata={"session_id": session_id, "task_id": task_id},
                    )
                _check_messages(change, session_id, new.message_seqs, "task.message_seqs")
                count = await self._store.count(change)
                if count >= MAX_TASKS:
                    raise limit_exceeded("tasks", MAX_TASKS)
                return await self._store.insert(
                    change, task_id, count + 1, new.status, new.data, seqs
                )
        except DuplicateRequest as duplicate:
            return await self.get(project_id, session_id, duplicate.result)

    async def get(self, project_id: UUID, session_id: str, task_id: str) -> TaskRow:
        """Raises: Fault TASK_NOT_FOUND."""
        check_session_id(session_id)
        check_task_id(task_id)
        key = session_key(project_id, session_id)
        row = await self._store.get(key, project_id, task_id)
        if row is None:
            if not await self._store.has_session(key, project_id):
                raise session_not_found(session_id)
            raise _task_not_found(session_id, task_id)
        return row

    async def list(
        self, project_id: UUID, session_id: str, status: int, page_size: int, page_token: str
    ) -> Page[TaskRow]:
        """A page. status: 0 = all. Raises: Fault INVALID_PAGE_TOKEN."""
        check_session_id(session_id)
        key = session_key(project_id, session_id)
        paging = Paging(page_size, page_token, ("tasks", key, status), _position, pagination.text)
        rows, has_more = await self._store.list(
            key, project_id, status, paging.after, paging.size, MAX_PAGE_BYTES
        )
        if not rows and not await self._store.has_session(key, project_id):
            raise session_not_found(session_id)
        return paging.page(rows, lambda row: (row.position, row.task_id), has_more=has_more)

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
        """Change a task. Raises: Fault, with the reasons that UpdateTask names."""
        check_session_id(session_id)
        check_task_id(task_id, "task.task_id")
        changes.check()
        if etag and not _ETAG.fullmatch(etag):
            raise invalid("etag", "is not an etag of a task")
        content = (
            "update task",
            task_id,
            changes.values,
            changes.data_patch,
            list(changes.link),
            list(changes.unlink),
            etag,
        )
        try:
            async with changing(
                self._store, project_id, session_id, request_id, *content, made=task_id
            ) as change:
                _check_open(change, session_id)
                task = await self._store.find(change, task_id)
                if task is None:
                    raise _task_not_found(session_id, task_id)
                if etag and etag != etag_of(task):
                    raise _etag_mismatch(session_id, task)
                _check_messages(
                    change, session_id, changes.values.get("message_seqs", ()), "task.message_seqs"
                )
                _check_messages(change, session_id, changes.link, "link_seqs")
                changed = await self._store.update(
                    change, task_id, changes.new_values(task), changes.data_patch
                )
                if changes.data_patch is not None:
                    _check_size(changed)
                return changed
        except DuplicateRequest:
            return await self.get(project_id, session_id, task_id)

    async def reorder(
        self, project_id: UUID, session_id: str, task_ids: Sequence[str], request_id: str
    ) -> Sequence[str]:
        """The tasks of these ids first, then the others as they are. Returns all task_ids. Raises: Fault TASK_NOT_FOUND."""
        check_session_id(session_id)
        if not task_ids:
            raise invalid("task_ids", "is empty; name at least one task")
        first: dict[str, None] = {}
        for i, task_id in enumerate(task_ids):
            check_task_id(task_id, f"task_ids[{i}]")
            if task_id in first:
                raise invalid(f"task_ids[{i}]", f"is {task_id!r} again; name each task once")
            first[task_id] = None
        # Not recorded, as ordering twice is the same as once; checked all the same.
        check_request_id(request_id)
        async with changing(self._store, project_id, session_id, "") as change:
            _check_open(change, session_id)
            present = await self._store.order(change)
            if missing := first.keys() - set(present):
                raise _task_not_found(
                    session_id, next(task_id for task_id in task_ids if task_id in missing)
                )
            order = [*first, *(task_id for task_id in present if task_id not in first)]
            await self._store.reorder(change, order)
        return order

    async def delete(
        self,
        project_id: UUID,
        session_id: str,
        task_id: str,
        *,
        allow_missing: bool,
        request_id: str,
    ) -> None:
        """Remove a task; those after it move up. Raises: Fault TASK_NOT_FOUND, REQUEST_ID_REUSED."""
        check_session_id(session_id)
        check_task_id(task_id)
        try:
            async with changing(
                self._store,
                project_id,
                session_id,
                request_id,
                "delete task",
                task_id,
                allow_missing,
            ) as change:
                _check_open(change, session_id)
                if not await self._store.delete(change, task_id) and not allow_missing:
                    raise _task_not_found(session_id, task_id)
        except DuplicateRequest:
            # There may be a task of this id again; a repetition does not touch it.
            return


def etag_of(task: TaskRow) -> str:
    """Of the log and the time of creation as well as the revision: a task that is made anew has other etags."""
    made = hashlib.blake2b(
        f"{task.log} {task.created_at.timestamp()} {task.task_id}".encode(), digest_size=8
    )
    return f"{made.hexdigest()}-{task.revision}"


def _check_open(change: Change, session_id: str) -> None:
    if change.state == SessionState.DESTROYED:
        raise Fault(
            "SESSION_DESTROYED",
            f"session {session_id!r} is destroyed: resume it (ResumeSession) to change its tasks",
            metadata={"session_id": session_id},
        )


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


def _check_size(task: TaskRow) -> None:
    size = len(json.dumps(task.data, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MAX_JSON_BYTES:
        raise invalid(
            "data_patch", f"would make data {size} bytes; at most {MAX_JSON_BYTES} are allowed"
        )


def _ascending(seqs: Sequence[int] | set[int]) -> list[int]:
    return sorted(set(seqs))


def _task_not_found(session_id: str, task_id: str) -> Fault:
    return Fault(
        "TASK_NOT_FOUND",
        f"session {session_id!r} has no task {task_id!r}",
        metadata={"session_id": session_id, "task_id": task_id},
    )


def _etag_mismatch(session_id: str, task: TaskRow) -> Fault:
    current = etag_of(task)
    return Fault(
        "ETAG_MISMATCH",
        f"task {task.task_id!r} was changed by somebody else; read it again, then decide",
        metadata={"session_id": session_id, "etag": current},
        fields={"etag": f"is not the current one, {current}"},
    )


def _position(value: Any) -> int:
    """Parses the position of a task in a page token."""
    if not 0 < pagination.int4(value) <= MAX_TASKS:
        raise ValueError(value)
    return int(value)
