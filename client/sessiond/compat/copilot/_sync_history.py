"""The history of a sync session: a list. _async_history.py is its async twin."""

from typing import TypeAlias

from sessiond._sync._connection import Connection
from sessiond._sync._lazy import Lazy
from sessiond._types.message import Message

History: TypeAlias = list[Message]


class Reader:
    """Reads histories."""

    def __init__(self, of_client: Connection) -> None:
        """Accept the same arguments as the async twin, which needs them."""

    def history(self, session_id: str, messages: Lazy[Message]) -> History:
        return messages.to_list()

    def close(self) -> None:
        """Do nothing: this reader has no connection of its own."""
