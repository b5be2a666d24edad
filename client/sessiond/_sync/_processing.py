# Generated from sessiond/_async/_processing.py by scripts/generate-sync-client: do not edit.
"""`client.processing`: the calls of ProcessingService."""

from sessiond._sync._connection import Connection


class Processing:
    """The calls of ProcessingService."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
