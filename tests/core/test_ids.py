"""Ids and keys."""

from uuid import uuid4

from sessiond_server.core.ids import session_key


def test_the_key_of_a_session_is_computed_once() -> None:
    """Every call about a session needs the key, and computing it takes time."""
    project_id = uuid4()
    assert session_key(project_id, "one") is session_key(project_id, "one")
    assert session_key(project_id, "one") != session_key(project_id, "two")
