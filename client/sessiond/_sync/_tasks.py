# Generated from sessiond/_async/_tasks.py by scripts/generate-sync-client: do not edit.
"""`client.tasks`: the calls of TaskService."""

from sessiond._sync._connection import Connection


class Tasks:
    """The calls of TaskService."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection


class SessionTasks:
    """`session.tasks`: the calls of `client.tasks` for one session."""

    def __init__(self, tasks: Tasks, session_id: str) -> None:
        self._tasks = tasks
        self._session_id = session_id
