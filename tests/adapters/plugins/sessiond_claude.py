"""A plugin for the SDK's own tests: replaces the SDK's store in memory by ours.

It runs in a pytest of the SDK's tests (see tests/adapters/suites.py), which cannot import our
tests' modules.
"""

import uuid
from typing import Any

import claude_agent_sdk
from claude_agent_sdk._internal import session_store

from sessiond.adapters import claude_agent_sdk as adapter
from sessiond.adapters._backend import Backend, decoded


class Store(adapter.SessiondSessionStore):
    """Our store with the extra methods of the SDK's tests, and a namespace for each object."""

    def __init__(self) -> None:
        self._new_namespace()

    def _new_namespace(self) -> None:
        super().__init__(namespace=uuid.uuid4().hex)
        # The times that tests set for transcripts, by PROJECT_KEY/SESSION_ID.
        self._mtimes: dict[str, int] = {}

    async def list_sessions(self, project_key: str) -> list[Any]:
        return [
            {**found, "mtime": self._mtimes.get(f"{project_key}/{found['session_id']}", mtime)}
            for found in await super().list_sessions(project_key)
            for mtime in (found["mtime"],)
        ]

    def get_entries(self, key: Any) -> list[Any]:
        async def read(client: Any) -> list[Any]:
            messages = client.sessions.get_messages(self.sessiond_id(key))
            try:
                return [decoded(message) async for message in messages]
            except adapter.SessionNotFound:
                return []

        return self._backend.run_sync(read)

    @property
    def size(self) -> int:
        async def count(client: Any) -> int:
            listed = client.list_sessions(session_id_prefix=self._backend.path("claude", ""))
            return len([i async for i in listed if "subpath" not in i.metadata["claude"]])

        return self._backend.run_sync(count)

    def clear(self) -> None:
        self._new_namespace()


claude_agent_sdk.InMemorySessionStore = Store  # type: ignore[misc]
session_store.InMemorySessionStore = Store  # type: ignore[misc]

_used: set[str] = set()
_current = [""]
_run = Backend.run


async def _counting_run(self: Backend, *args: Any, **options: Any) -> Any:
    _used.add(_current[0])
    return await _run(self, *args, **options)


Backend.run = _counting_run  # type: ignore[method-assign]


def pytest_runtest_setup(item: Any) -> None:
    _current[0] = item.nodeid


def pytest_runtest_makereport(item: Any, call: Any) -> None:
    """Record in the report whether the test called our store."""
    if call.when == "call" and item.nodeid in _used:
        item.user_properties.append(("uses_sessiond", "1"))
