"""The rules of the processing queues."""

from sessiond_server.store.processing import ProcessingStore


class Processing:
    """The rules of the processing queues."""

    def __init__(self, store: ProcessingStore) -> None:
        self._store = store
