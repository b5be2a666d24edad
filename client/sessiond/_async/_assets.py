"""`client.assets`: the calls of AssetService."""

from sessiond._async._connection import AsyncConnection


class AsyncAssets:
    """The calls of AssetService."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
