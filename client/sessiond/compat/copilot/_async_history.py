"""The history of an async session: awaitable, and a list. _sync_history.py is its sync twin."""

from collections.abc import Callable, Generator, Iterator, Sequence
from threading import Lock
from typing import Any, overload

from sessiond._async._connection import AsyncConnection
from sessiond._async._lazy import AsyncLazy
from sessiond._sync._connection import Connection
from sessiond._sync._sessions import Sessions
from sessiond._types.message import Message


class AsyncHistory(Sequence[Message]):
    """All messages of a session, fetched on first use.

    `await history` fetches the messages and returns a list. Using the history as a list without
    awaiting it fetches them too, but blocks the event loop meanwhile.

    Args:
        messages: fetches the messages asynchronously.
        read: fetches the messages, blocking.
    """

    def __init__(self, messages: AsyncLazy[Message], read: Callable[[], list[Message]]) -> None:
        self._lazy = messages
        self._read = read
        self._messages: list[Message] | None = None

    def __await__(self) -> Generator[Any, None, list[Message]]:
        return self._fetched().__await__()

    async def _fetched(self) -> list[Message]:
        if self._messages is None:
            self._messages = await self._lazy.to_list()
        return self._messages

    @property
    def _list(self) -> list[Message]:
        if self._messages is None:
            self._messages = self._read()
        return self._messages

    def __len__(self) -> int:
        return len(self._list)

    @overload
    def __getitem__(self, index: int) -> Message: ...

    @overload
    def __getitem__(self, index: slice) -> list[Message]: ...

    def __getitem__(self, index: int | slice) -> Message | list[Message]:
        return self._list[index]

    def __iter__(self) -> Iterator[Message]:
        return iter(self._list)

    def __repr__(self) -> str:
        return "AsyncHistory(not fetched yet)" if self._messages is None else repr(self._messages)


class Reader:
    """Reads histories, also without an event loop.

    Blocking reads use a connection of their own, since the client's belongs to the event loop.
    """

    def __init__(self, of_client: AsyncConnection) -> None:
        self._of_client = of_client
        self._lock = Lock()
        self._connection: Connection | None = None

    def history(self, session_id: str, messages: AsyncLazy[Message]) -> AsyncHistory:
        """Return the history of a session; `messages` fetches it asynchronously."""
        return AsyncHistory(
            messages, lambda: Sessions(self._opened()).get_messages(session_id).to_list()
        )

    def _opened(self) -> Connection:
        _ = self._of_client.stubs  # raises ClientClosed
        with self._lock:
            if self._connection is None:
                self._connection = Connection(self._of_client.settings)
            return self._connection

    def close(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
        if connection:
            connection.close()
