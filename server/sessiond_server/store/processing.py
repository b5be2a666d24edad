"""Processing queues."""

from sessiond_server.store.database import Database


class ProcessingStore:
    """Processing queues."""

    def __init__(self, database: Database) -> None:
        self._database = database
