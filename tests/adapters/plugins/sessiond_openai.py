"""A plugin for the SDK's own tests: replaces the SDK's sessions by ours.

It runs in a pytest of the SDK's tests (see tests/adapters/suites.py), which cannot import our
tests' modules.
"""

import hashlib
import uuid
from typing import Any

# This module recognises instances by the real class, so import it before the class is replaced.
import agents.extensions.memory.encrypt_session
import agents.extensions.memory.sqlalchemy_session as sqlalchemy_session
import agents.memory
import agents.memory.sqlite_session

from sessiond import Client
from sessiond.adapters import openai_agents as adapter
from sessiond.adapters._backend import Backend
from tests.utils import simple_session

_RUN = uuid.uuid4().hex
# There is no timeout, because gRPC computes deadlines from the clock, which tests set.
_CLIENT = Client(timeout=None)


class Session(adapter.SessiondSession):
    """Our session with the constructors of the SDK's sessions. Each database is a namespace."""

    def __init__(
        self,
        session_id: str,
        db_path: Any = ":memory:",
        *,
        engine: Any = None,
        session_settings: Any = None,
        **_: Any,
    ) -> None:
        if engine is not None:
            db_path = engine.url
        place = uuid.uuid4().hex if ":memory:" in str(db_path) else f"{_RUN}{db_path}"
        namespace = hashlib.sha256(place.encode()).hexdigest()
        super().__init__(
            session_id, client=_CLIENT, namespace=namespace, session_settings=session_settings
        )

    @classmethod
    def from_url(cls, session_id: str, *, url: str, **options: Any) -> "Session":
        return cls(session_id, url, session_settings=options.get("session_settings"))

    def close(self) -> None:
        """Do nothing, because the session holds no resources."""


class ListSession(adapter.SessiondSession):
    """Our session in place of the tests' SimpleListSession. The tests inspect its items.

    Like SimpleListSession, it has only the four public methods.
    """

    _get_compaction_snapshot = None  # type: ignore[assignment]
    _atomic_replace_items = None  # type: ignore[assignment]

    def __init__(self, session_id: str = "test", history: Any = None) -> None:
        super().__init__(session_id, client=_CLIENT, namespace=uuid.uuid4().hex)
        self._ignore_ids_for_matching = False
        if history:
            messages = adapter.messages_of(history)
            self._backend.run_sync(lambda client: self._append(client, messages))

    @property
    def _items(self) -> list[Any]:
        async def read(client: Any) -> list[Any]:
            try:
                return [place.item for place in await self._places(client, None)]
            except adapter.SessionNotFound:
                return []

        return self._backend.run_sync(read)

    saved_items = _items


agents.SQLiteSession = Session  # type: ignore[misc]
agents.memory.SQLiteSession = Session  # type: ignore[misc]
agents.memory.sqlite_session.SQLiteSession = Session  # type: ignore[misc]
sqlalchemy_session.SQLAlchemySession = Session
simple_session.SimpleListSession = ListSession

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
    """Record in the report whether the test called our session."""
    if call.when == "call" and item.nodeid in _used:
        item.user_properties.append(("uses_sessiond", "1"))
