# Generated from sessiond/_async/_assets.py by scripts/generate-sync-client: do not edit.
"""`client.assets`: the calls of AssetService."""

from sessiond._sync._connection import Connection


class Assets:
    """The calls of AssetService."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
