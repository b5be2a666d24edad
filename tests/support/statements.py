"""The statements that a server in this process sends to PostgreSQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from sessiond_server.db import cursors
from sessiond_server.db.prepared import PreparedStatement


@contextmanager
def statements() -> Iterator[list[str]]:
    """Collect the text of each statement, including BEGIN, COMMIT and savepoints."""
    sent: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for cursor in (cursors.TimedCursor, cursors.TimedClientCursor):
            patch.setattr(cursor, "execute", _noting(cursor.execute, sent))
        patch.setattr(PreparedStatement, "run", _noting_prepared(PreparedStatement.run, sent))
        base = psycopg.AsyncConnection
        patch.setattr(base, "_exec_command", _noting(base._exec_command, sent))
        yield sent


def of_calls(sent: list[str]) -> list[str]:
    """Leave out what the server sends at any time: notifications, polls, and new connections."""
    background = ("SELECT key,", "SELECT pg_backend_pid() = ")
    return [text for text in sent if "pg_notify" not in text and not text.startswith(background)]


def _noting_prepared(run: Any, sent: list[str]) -> Any:
    def noted(self: PreparedStatement, *args: Any) -> Any:
        sent.append(" ".join(self._text.decode().split()))
        return run(self, *args)

    return noted


def _noting(function: Any, sent: list[str]) -> Any:
    def noted(self: Any, query: Any, *args: Any, **options: Any) -> Any:
        text = query.decode() if isinstance(query, bytes) else str(query)
        sent.append(" ".join(text.split()))
        return function(self, query, *args, **options)

    return noted
