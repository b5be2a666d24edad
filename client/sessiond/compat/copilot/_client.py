"""A client that is async or sync, depending on where it is first used."""

import asyncio
from collections.abc import Mapping
from threading import Lock
from types import TracebackType
from typing import Any, Self

from sessiond._protocol.settings import DEFAULT_TIMEOUT_S, Tls
from sessiond.compat.copilot._async import AsyncCopilotClient
from sessiond.compat.copilot._sync import SyncCopilotClient


class CopilotClient:
    """A client that is async inside a running event loop, and sync elsewhere.

    The first call decides whether the client and its sessions are async or sync. Later calls from
    the other kind of code raise RuntimeError. See AsyncCopilotClient for the arguments.
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
        # Creating both clients opens no connection, and checks the arguments now.
        self._async = AsyncCopilotClient(
            options, target=target, api_key=api_key, timeout=timeout, tls=tls, **keywords
        )
        self._sync = SyncCopilotClient(
            options, target=target, api_key=api_key, timeout=timeout, tls=tls, **keywords
        )
        self._lock = Lock()
        self._is_async: bool | None = None

    def _chosen(self) -> Any:
        is_async = _has_loop()
        with self._lock:
            if self._is_async is None:
                self._is_async = is_async
        if self._is_async is not is_async:
            where, name = (
                ("outside", "AsyncCopilotClient") if is_async else ("inside", "SyncCopilotClient")
            )
            raise RuntimeError(
                f"this CopilotClient was first used {where} an event loop, and works only there; "
                f"create another one here, or use {name}"
            )
        return self._async if is_async else self._sync

    def start(self) -> Any:
        """Open the connection."""
        return self._chosen().start()

    def stop(self) -> Any:
        """Close the connection. Sessions are kept."""
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
            raise RuntimeError("inside an event loop, use a CopilotClient with `async with`")
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
