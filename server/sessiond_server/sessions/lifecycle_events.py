"""Events of a session's life, made of its row."""

from sessiond_server.core.events import Happening
from sessiond_server.core.pg_time import now_us
from sessiond_server.sessions.store.deletion import Buried
from sessiond_server.sessions.store.sessions import SessionRow


def happening(type_: str, session: SessionRow | Buried) -> Happening:
    """Returns an event of a session, of this moment."""
    return Happening(type_, session.project_id, session.session_id, session.log, now_us())
