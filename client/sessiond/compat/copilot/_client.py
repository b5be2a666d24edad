"""The client that is async or sync by where it is first used."""

import asyncio
from collections.abc import Mapping
from threading import Lock
from types import TracebackType
from typing import Any, NoReturn, Self

from sessiond._protocol.settings import DEFAULT_TIMEOUT_S, Tls
from sessiond.compat.copilot._async import AsyncCopilotClient
from sessiond.compat.copilot._sync import SyncCopilotClient


class CopilotClient:
    """AsyncCopilotClient where it is first used within a running event loop, SyncCopilotClient elsewhere. It stays what it is then: using
    it otherwise afterwards raises a RuntimeError. Sessions are what its client is.
    """

    def __init__(
        self,
        options: Mapping[str, Any] | None = None,
        *,
        target: str | None = None,
        api_key: str | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        tls: Tls = False,
        **keywords: Any,
    ) -> None:
        """As of AsyncCopilotClient."""
        # One of them is used. Making both connects nothing, and refuses here what is wrong.
        self._async = AsyncCopilotClient(
            options, target=target, api_key=api_key, timeout=timeout, tls=tls, **keywords
        )
        self._sync = SyncCopilotClient(
            options, target=target, api_key=api_key, timeout=timeout, tls=tls, **keywords
        )
        self._lock = Lock()
        self._is_async: bool | None = None

    def _chosen(self) -> Any:
        """The client for where this is called. Raises: RuntimeError."""
        is_async = _has_loop()
        with self._lock:
            if self._is_async is None:
                self._is_async = is_async
        if self._is_async is is_async:
            return self._async if is_async else self._sync
        if is_async:
            raise RuntimeError(
                "this CopilotClient was first used outside an event loop, and is a sync one: make another within the loop, or take "
                "AsyncCopilotClient"
            )
        raise RuntimeError(
            "this CopilotClient was first used within an event loop, and is an async one: make another outside, or take SyncCopilotClient"
        )

    def start(self) -> Any:
        """Open the connection."""
        return self._chosen().start()

    def stop(self) -> Any:
        """Close the connection. Sessions stay as they are."""
        return self._chosen().stop()

    def force_stop(self) -> Any:
        """The same as stop()."""
        return self._chosen().force_stop()

    def create_session(self, *args: Any, **keywords: Any) -> Any:
        """See AsyncCopilotClient.create_session."""
        return self._chosen().create_session(*args, **keywords)

    def resume_session(self, *args: Any, **keywords: Any) -> Any:
        """See AsyncCopilotClient.resume_session."""
        return self._chosen().resume_session(*args, **keywords)

    def delete_session(self, session_id: str) -> Any:
        """See AsyncCopilotClient.delete_session."""
        return self._chosen().delete_session(session_id)

    def list_sessions(self, *args: Any, **filters: Any) -> Any:
        """See AsyncCopilotClient.list_sessions."""
        return self._chosen().list_sessions(*args, **filters)

    def get_session_metadata(self, session_id: str) -> Any:
        """See AsyncCopilotClient.get_session_metadata."""
        return self._chosen().get_session_metadata(session_id)

    def get_last_session_id(self) -> Any:
        """See AsyncCopilotClient.get_last_session_id."""
        return self._chosen().get_last_session_id()

    def on_lifecycle(self, *args: Any) -> Any:
        """See AsyncCopilotClient.on_lifecycle."""
        return self._chosen().on_lifecycle(*args)

    def ping(self, message: str | None = None) -> Any:
        """See AsyncCopilotClient.ping."""
        return self._chosen().ping(message)

    async def __aenter__(self) -> Self:
        await self._chosen().start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._chosen().stop()

    def __enter__(self) -> Self:
        if _has_loop():
            _refuse_with()
        self._chosen().start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._chosen().stop()


def _has_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _refuse_with() -> NoReturn:
    raise RuntimeError("within an event loop a CopilotClient is used by `async with`")
