"""Tasks of a session."""

from datetime import datetime
from typing import Any

from sessiond._protocol.names import TASK_STATUS_NAMES
from sessiond._protocol.structs import from_struct
from sessiond._protocol.times import from_timestamp
from sessiond._types.record import ProtoRecord
from sessiond.v1 import task_pb2


class Task(ProtoRecord[task_pb2.Task]):
    """A task as the server returned it; it does not change afterwards.

    Fields can be read as attributes and as keys, in both spellings: `task.task_id`,
    `task["task_id"]`, `task["taskId"]`.
    """

    __slots__ = ("_data",)

    _fields = (
        "task_id",
        "position",
        "order",
        "status",
        "data",
        "message_seqs",
        "created_at",
        "updated_at",
        "etag",
    )
    _identity = ("task_id", "position", "status")

    def __init__(self, pb: task_pb2.Task) -> None:
        super().__init__(pb)
        self._data: dict[str, Any] | None = None

    @property
    def task_id(self) -> str:
        """The task's id, unique in its session."""
        return self._pb.task_id

    @property
    def position(self) -> int:
        """The task's position among the session's tasks: 1, 2, 3, ..."""
        return self._pb.position

    @property
    def order(self) -> int:
        """The same as position."""
        return self._pb.position

    @property
    def status(self) -> str:
        """The status: "pending", "running", "success" or "failed"."""
        return TASK_STATUS_NAMES.get(self._pb.status, "unknown")

    @property
    def data(self) -> dict[str, Any]:
        """The caller's data about the task, as a JSON object."""
        if self._data is None:
            self._data = from_struct(self._pb.data)
        return self._data

    @property
    def message_seqs(self) -> list[int]:
        """The seqs of the task's messages, ascending."""
        return list(self._pb.message_seqs)

    @property
    def created_at(self) -> datetime:
        """Time of creation, in UTC."""
        return from_timestamp(self._pb.create_time)

    @property
    def updated_at(self) -> datetime:
        """Time of the last change other than of its position, in UTC."""
        return from_timestamp(self._pb.update_time)

    @property
    def etag(self) -> str:
        """An opaque version that changes with everything but the position."""
        return self._pb.etag
