"""The rules of tasks."""

from sessiond_server.store.tasks import TaskStore


class Tasks:
    """The rules of tasks."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store
