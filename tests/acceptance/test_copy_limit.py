"""SESSIOND_COPY_MAX_MESSAGES, as an operator sets it."""

from collections.abc import Callable
from typing import Any

import pytest

from sessiond import Client, SessionTooLarge

from ..support.processes import ServerProcess


def test_copies_beyond_the_operators_limit_are_refused_and_write_nothing(
    start_server: Callable[..., ServerProcess],
    database_url: str,
    query: Callable[..., list[tuple[Any, ...]]],
) -> None:
    limited = start_server(SESSIOND_DATABASE_URL=database_url, SESSIOND_COPY_MAX_MESSAGES="5000")
    with Client(limited.target) as client:
        session = client.create_session("one")
        session.import_messages([{"role": "user", "content": f"{i}"} for i in range(5001)])
        counts = (f"(SELECT count(*) FROM {t})" for t in ("sessions", "segments", "messages"))
        written = f"SELECT {', '.join(counts)}"
        before = query(written)
        with pytest.raises(SessionTooLarge) as refused:
            session.copy("two")
        assert "SESSION_TOO_LARGE" in str(refused.value)
        assert (
            refused.value.metadata["message_count"],
            refused.value.metadata["max_messages"],
        ) == ("5001", "5000")
        assert query(written) == before
        assert session.copy("two", up_to_seq=5000).info.last_seq == 5000
    free = start_server(SESSIOND_DATABASE_URL=database_url)
    with Client(free.target) as client:
        copied = client.sessions.copy("one", "three").session
        assert copied.last_seq == 5001
        assert sum(1 for _ in client.sessions.get_messages("three")) == 5001
