"""Events of a session's lifecycle."""

from sessiond_server.core.events import Event
from sessiond_server.core.pg_time import now_us
from sessiond_server.sessions.store.deletion import DeletedSession
from sessiond_server.sessions.store.sessions import SessionRow


def lifecycle_event(type_: str, session: SessionRow | DeletedSession) -> Event:
    """Return a lifecycle event of a session, with the current time."""
    return Event(type_, session.project_id, session.session_id, session.log, now_us())
