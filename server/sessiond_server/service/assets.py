"""The rules of assets."""

from sessiond_server.store.assets import AssetStore


class Assets:
    """The rules of assets."""

    def __init__(self, store: AssetStore) -> None:
        self._store = store
