"""What the server says about a task."""

from datetime import datetime
from typing import Any

from sessiond._protocol.names import TASK_STATUS_NAMES
from sessiond._protocol.structs import from_struct
from sessiond._protocol.times import from_timestamp
from sessiond._types.record import Record
from sessiond.v1 import task_pb2


class Task(Record):
    """A task as it was when the server answered; it does not change afterwards.

    Reads by attribute, and by key in both spellings: `task.task_id`, `task["task_id"]`, `task["taskId"]`.
    """

    __slots__ = ("_data", "_pb")

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

    def __init__(self, pb: task_pb2.Task) -> None:
        self._pb = pb
        self._data: dict[str, Any] | None = None

    @property
    def task_id(self) -> str:
        """The task's name within its session."""
        return self._pb.task_id

    @property
    def position(self) -> int:
        """Its place in the session's order of tasks: 1, 2, 3, ..."""
        return self._pb.position

    @property
    def order(self) -> int:
        """The same as position."""
        return self._pb.position

    @property
    def status(self) -> str:
        """ "pending", "running", "success" or "failed"."""
        return TASK_STATUS_NAMES.get(self._pb.status, "unknown")

    @property
    def data(self) -> dict[str, Any]:
        """What the caller keeps about the task."""
        if self._data is None:
            self._data = from_struct(self._pb.data)
        return self._data

    @property
    def message_seqs(self) -> list[int]:
        """The seqs of the messages that belong to it, ascending."""
        return list(self._pb.message_seqs)

    @property
    def created_at(self) -> datetime:
        """When the task was created, in UTC."""
        return from_timestamp(self._pb.create_time)

    @property
    def updated_at(self) -> datetime:
        """When it was last changed, its position apart. In UTC."""
        return from_timestamp(self._pb.update_time)

    @property
    def etag(self) -> str:
        """Changes whenever the task does, its position apart. Opaque."""
        return self._pb.etag

    def __eq__(self, other: object) -> bool:
        return self._pb == other._pb if isinstance(other, Task) else NotImplemented

    def __hash__(self) -> int:
        return hash((self._pb.task_id, self._pb.etag))

    def __repr__(self) -> str:
        return f"Task(task_id={self.task_id!r}, position={self.position}, status={self.status!r})"
