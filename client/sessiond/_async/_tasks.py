"""`client.tasks`: the calls of TaskService."""

from sessiond._async._connection import AsyncConnection


class AsyncTasks:
    """The calls of TaskService."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection


class AsyncSessionTasks:
    """`session.tasks`: the calls of `client.tasks` for one session."""

    def __init__(self, tasks: AsyncTasks, session_id: str) -> None:
        self._tasks = tasks
        self._session_id = session_id
