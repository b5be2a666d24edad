"""Assets: what is known of them."""

from sessiond_server.store.database import Database


class AssetStore:
    """Assets: what is known of them."""

    def __init__(self, database: Database) -> None:
        self._database = database
