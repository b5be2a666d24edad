"""Tasks of sessions."""

from sessiond_server.store.database import Database


class TaskStore:
    """Tasks of sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database
