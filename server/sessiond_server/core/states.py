"""States as the database stores them. The numbers are those of the enums in protos/."""

from enum import IntEnum


class SessionStatus(IntEnum):
    """Whether a session takes appends. The database's column is named state."""

    ACTIVE = 1
    DESTROYED = 2


class TaskStatus(IntEnum):
    """Status of a task. The client changes it freely."""

    PENDING = 1
    RUNNING = 2
    SUCCESS = 3
    FAILED = 4


class TurnState(IntEnum):
    """State of a turn.

    JOINED is internal: the turn's messages were added to another turn, and both turns end together.
    """

    QUEUED = 1
    RUNNING = 2
    COMPLETED = 3
    FAILED = 4
    ABORTED = 5
    JOINED = 6


class QueueMessageState(IntEnum):
    """State of a message in a queue, if it cannot be derived from the watermark (done_seq)."""

    AGAIN = 1
    FAILED = 4
