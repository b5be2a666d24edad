"""`client.processing`: the calls of ProcessingService."""

from sessiond._async._connection import AsyncConnection


class AsyncProcessing:
    """The calls of ProcessingService."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
