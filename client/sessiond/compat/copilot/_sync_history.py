"""The history. The twin is sessiond/compat/copilot/_async_history.py, written by hand as well."""

from typing import TypeAlias

from sessiond._sync._connection import Connection
from sessiond._sync._lazy import Lazy
from sessiond._types.message import Message

History: TypeAlias = list[Message]


class Reader:
    """Reads histories."""

    def __init__(self, of_client: Connection) -> None:
        """Nothing is needed besides the client's own connection."""

    def history(self, session_id: str, messages: Lazy[Message]) -> History:
        return messages.to_list()

    def close(self) -> None:
        """Nothing to do."""
